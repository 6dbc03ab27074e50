"""``--progress-fd``: the lines are those of upstream's protocol, and programs can count on them."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from bootc_build.onhost.cli.json_progress import JsonProgress
from bootc_build.onhost.progress import LayerTransfer, Part, Silent, Steps, Transfer
from tests.host.pretend_boot import BOOTC, PretendHost, publish

_COMMON: dict[str, Any] = {"type": str, "task": str, "description": str, "id": str}
_STEPS: dict[str, Any] = {"stepsCached": int, "steps": int, "stepsTotal": int, "subtasks": list}
_BYTES: dict[str, Any] = {"bytesCached": int, "bytes": int, "bytesTotal": int}
_SUBTASK: dict[str, Any] = {"subtask": str, "description": str, "id": str}
# Type of event -> its fields, and those of each of its subtasks: no more and no fewer.
FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Start": ({"type": str, "version": str}, {}),
    "ProgressBytes": (_COMMON | _BYTES | _STEPS, _SUBTASK | _BYTES),
    "ProgressSteps": (_COMMON | _STEPS, _SUBTASK | {"completed": bool}),
}


def check_fields(document: dict[str, Any], fields: dict[str, Any]) -> None:
    assert {name: type(value) for name, value in document.items()} == fields
    assert all(value >= 0 for value in document.values() if type(value) is int)


def check_stream(text: str) -> list[dict[str, Any]]:
    """The events, each of which is as upstream's schema has it."""
    events: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    for event in events:
        fields, subtask = FIELDS[event["type"]]
        check_fields(event, fields)
        for part in event.get("subtasks", []):
            check_fields(part, subtask)
    assert events[0] == {"type": "Start", "version": "0.1.0"}
    assert all(event["type"] != "Start" for event in events[1:])
    return events


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe, to read from and to write to."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def transfer(done: int, *running: LayerTransfer) -> Transfer:
    return Transfer("os:1", "sha256:" + "a" * 64, 1, done, 2, 10, 5, 30, running)


def test_layers_are_told_until_they_are_complete(pipe: tuple[int, int]) -> None:
    progress = JsonProgress(pipe[1], Silent())
    first, second = (f"sha256:{letter * 64}" for letter in "bc")
    progress.transfer(transfer(0, LayerTransfer(first, 2, 3, 10)))
    progress.transfer(transfer(0, LayerTransfer(first, 2, 4, 10)))  # too soon after the other
    progress.transfer(transfer(1, LayerTransfer(second, 3, 5, 20)))
    progress.transfer(transfer(2))
    part = Part("importing", "Importing Image", completed=False)
    progress.task(Steps("importing", "Importing Image", "sha256:ab", 0, 1, (part,)))
    _start, one, two, three, four = check_stream(os.read(pipe[0], 100_000).decode())
    assert [event["steps"] for event in (one, two, three)] == [0, 1, 2]
    parts = [(part["id"], part["bytes"], part["bytesTotal"]) for part in two["subtasks"]]
    assert parts == [("b" * 21, 10, 10), ("c" * 21, 5, 20)]
    assert [part["bytes"] for part in three["subtasks"]] == [10, 20]
    assert (one["stepsCached"], one["stepsTotal"], one["bytesTotal"]) == (1, 2, 30)
    assert (four["task"], four["subtasks"][0]["completed"]) == ("importing", False)


def test_reader_that_went_away_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    progress = JsonProgress(writing, Silent())
    for _ in range(2):
        progress.task(Steps("staging", "Deploying Image", "sha256:ab", 0, 3, ()))
    os.close(writing)
    assert capsys.readouterr().err == "Failed to write to jsonl: Broken pipe\n"


def test_upgrade_tells_of_fetching_importing_and_staging(host: PretendHost) -> None:
    digest = publish(host, "2")
    script = f"{' '.join(BOOTC)} upgrade --quiet --progress-fd 3 3>&1 >/dev/null | cat"
    done = host.execute("sh", "-c", script)
    assert done.stderr == ""
    events = check_stream(done.stdout)[1:]
    tasks = [event["task"] for event in events]
    assert list(dict.fromkeys(tasks)) == ["pulling", "importing", "staging"]
    assert {event["id"] for event in events} == {digest}
    last = {event["task"]: event for event in events}
    pulled = last["pulling"]
    assert pulled["bytes"] == pulled["bytesTotal"] > 0
    assert pulled["steps"] == pulled["stepsTotal"] == 1
    assert all(part["bytes"] == part["bytesTotal"] for part in pulled["subtasks"])
    for task, names in (
        ("importing", "importing"),
        ("staging", "merging bound_images deploying cleanup"),
    ):
        event = last[task]
        assert event["steps"] == event["stepsTotal"]
        assert [part["subtask"] for part in event["subtasks"]] == names.split()
        assert all(part["completed"] for part in event["subtasks"])


def test_only_a_pipe_will_do(host: PretendHost) -> None:
    done = host.execute("sh", "-c", f"{' '.join(BOOTC)} upgrade --progress-fd 3 3>/tmp/file")
    assert done.status == 2
    assert "File descriptor 3 is not a pipe." in done.stderr


def test_required_soft_reboot_is_refused_before_anything_is_fetched(host: PretendHost) -> None:
    publish(host, "2")
    for verb in ("upgrade", "rollback"):
        done = host.execute(*BOOTC, verb, "--soft-reboot=required")
        assert done.status == 1
        assert done.stderr.startswith("error: Soft reboot was required but ")
    host.bootc("upgrade", "--soft-reboot=auto")
    assert host.status()["staged"]["softRebootCapable"] is False
