"""Room for machines, claimed by real processes."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UsageError
from bootc_build.vm.slots import Slots, available_memory_mib
from bootc_build.vm.waiting import wait_until

_HOLDER = """
import json, sys
from contextlib import ExitStack
from pathlib import Path
from bootc_build.vm.slots import Slots

wishes = json.loads(sys.argv[2])
slots = Slots(wishes.pop("limit", None), folder=Path(sys.argv[1]), processors=2, free_mib=lambda: 4096)
with ExitStack() as stack:
    for line in sys.stdin:
        if line.strip() == "leave":
            break
        print("wants", flush=True)
        stack.enter_context(slots.claimed("test", **wishes))
        print("has", flush=True)
"""


class Holder:
    """A process that claims each time that it is asked to."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self._folder = folder

    def ask(self) -> None:
        self._say("claim")
        assert self.line() == "wants"

    def has(self) -> bool:
        return self.line() == "has"

    def is_waiting(self) -> bool:
        """It is at the queue's head or behind, and has no claim."""
        return not any(
            claim.process == self.process.pid for claim in Slots(folder=self._folder).claims()
        )

    def leave(self) -> None:
        self._say("leave")
        self.process.wait()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def _say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()


Start = Callable[..., Holder]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that claims in this test's folder."""
    with ExitStack() as stack:

        def start_holder(**wishes: int) -> Holder:
            wishes = {"cpus": 2, "memory_mib": 1024, **wishes}
            argv = [sys.executable, "-c", _HOLDER, str(tmp_path), json.dumps(wishes)]
            process = stack.enter_context(
                subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            return Holder(process, tmp_path)

        yield start_holder


def _heads_the_queue(tmp_path: Path, holder: Holder) -> bool:
    inode = (tmp_path / "queue").stat().st_ino if (tmp_path / "queue").exists() else -1
    return any(
        f" {holder.process.pid} " in line and f":{inode} " in line and "->" not in line
        for line in Path("/proc/locks").read_text().splitlines()
    )


def test_machines_of_different_processes_share_the_processors(start: Start, tmp_path: Path) -> None:
    first, second, third = start(), start(), start()
    for holder in (first, second):
        holder.ask()
        assert holder.has()
    third.ask()
    assert wait_until(lambda: _heads_the_queue(tmp_path, third), seconds=20)
    assert third.is_waiting()
    first.leave()
    assert third.has()


def test_a_number_of_slots_counts_machines(start: Start, tmp_path: Path) -> None:
    first, second = start(limit=1, cpus=1), start(limit=1, cpus=1)
    first.ask()
    assert first.has()
    second.ask()
    assert wait_until(lambda: _heads_the_queue(tmp_path, second), seconds=20)
    assert second.is_waiting()
    first.leave()
    assert second.has()


def test_memory_counts(start: Start, tmp_path: Path) -> None:
    first, second = start(cpus=1, memory_mib=2500), start(cpus=1, memory_mib=2500)
    first.ask()
    assert first.has()
    second.ask()
    assert wait_until(lambda: _heads_the_queue(tmp_path, second), seconds=20)
    assert second.is_waiting()
    first.leave()
    assert second.has()


def test_the_only_one_gets_in_whatever_it_asks_for(start: Start) -> None:
    holder = start(cpus=64, memory_mib=1 << 20)
    holder.ask()
    assert holder.has()


def test_a_process_that_has_a_machine_never_waits_for_another(start: Start) -> None:
    """Two tests of two machines each on a computer for two: neither waits for the other."""
    first, second = start(limit=2), start(limit=2)
    for holder in (first, second, first, second):
        holder.ask()
        assert holder.has()


def test_several_machines_at_once_are_all_or_nothing(start: Start, tmp_path: Path) -> None:
    one, pair = start(limit=2), start(limit=2, machines=2)
    one.ask()
    assert one.has()
    pair.ask()
    assert wait_until(lambda: _heads_the_queue(tmp_path, pair), seconds=20)
    assert pair.is_waiting()
    one.leave()
    assert pair.has()


def test_a_large_wish_is_not_overtaken_for_ever(start: Start, tmp_path: Path) -> None:
    one, pair, late = start(limit=2), start(limit=2, machines=2), start(limit=2)
    one.ask()
    assert one.has()
    pair.ask()
    assert wait_until(lambda: _heads_the_queue(tmp_path, pair), seconds=20)
    late.ask()  # It would fit beside the first.
    one.leave()
    assert pair.has()
    assert late.is_waiting()
    pair.leave()
    assert late.has()


def test_a_killed_process_holds_nothing(start: Start) -> None:
    first, second = start(limit=1), start(limit=1)
    first.ask()
    assert first.has()
    second.ask()
    first.process.kill()
    assert second.has()


def test_the_claims_tell_who_is_there(start: Start, tmp_path: Path) -> None:
    holder = start(cpus=3, memory_mib=77)
    holder.ask()
    assert holder.has()
    [claim] = Slots(folder=tmp_path).claims()
    assert (claim.process, claim.cpus, claim.memory_mib) == (holder.process.pid, 3, 77)
    holder.leave()
    assert Slots(folder=tmp_path).claims() == []
    assert [path.name for path in tmp_path.iterdir()] == ["queue"]


def test_who_does_not_wait_is_counted_all_the_same(start: Start, tmp_path: Path) -> None:
    slots = Slots(1, folder=tmp_path)
    holder = start(limit=1)
    with slots.claimed("a person's", cpus=2, memory_mib=64, wait=False):
        holder.ask()
        assert wait_until(lambda: _heads_the_queue(tmp_path, holder), seconds=20)
        with slots.claimed("another", cpus=2, memory_mib=64, wait=False):
            assert holder.is_waiting()
    assert holder.has()


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_a_wrong_number_of_slots_is_told(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTC_BUILD_SLOTS", value)
    with pytest.raises(UsageError, match="BOOTC_BUILD_SLOTS"):
        Slots()


def test_free_memory_is_what_the_kernel_says() -> None:
    assert 0 < available_memory_mib() < 1 << 30


def test_root_of_a_users_namespace_has_the_users_slots(tmp_path: Path) -> None:
    program = "from bootc_build.vm.slots import Slots; print(Slots().folder)"
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", program]
    # Mapped alone, root of the namespace is one more user of the machine.
    become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *command]
    environment = {"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    said = subprocess.run(become, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == f"{tmp_path}/bootc-build/slots"
