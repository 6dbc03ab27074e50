"""The record of a machine: an asciicast and the monitor's exchange."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bootc_build.vm.accel import Acceleration, Accelerator
from bootc_build.vm.console import Console
from bootc_build.vm.errors import MachineError
from bootc_build.vm.machine import Machine
from bootc_build.vm.record import MachineRecord
from bootc_build.vm.spec import Disk, MachineSpec
from bootc_build.vm.waiting import wait_until
from tests.vm.boot_sectors import HALT, write_guest
from tests.vm.fake_guest import fake_guest


def _record(folder: Path) -> MachineRecord:
    return MachineRecord(folder / "one.cast", folder / "one.qmp.jsonl", title="one")


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _printed(path: Path) -> str:
    return "".join(text for _, code, text in _lines(path)[1:] if code == "o")


def test_the_asciicast_has_every_byte_in_the_order_of_time(tmp_path: Path) -> None:
    pieces = [b"gr\xc3", b"\xbc\xc3\x9fe\r\n", b"\x1b[31mred", b"\x1b[0m \xff\0\r\n"]
    with _record(tmp_path) as record:
        for piece in pieces:
            record.console(piece)
    header, *events = _lines(tmp_path / "one.cast")
    assert (header["version"], header["title"]) == (2, "one")
    assert _printed(tmp_path / "one.cast") == "grüße\r\n\x1b[31mred\x1b[0m \\xff\0\r\n"
    times = [seconds for seconds, _, _ in events]
    assert times == sorted(times)


def test_the_console_records_words_frames_and_notes(tmp_path: Path) -> None:
    with (
        _record(tmp_path) as record,
        fake_guest() as guest,
        Console(guest.console, log=tmp_path / "log", record=record) as console,
    ):
        console.note("run: something")
        guest.kernel_says("Kernel panic - not syncing: no init")
        assert wait_until(lambda: "no init" in _printed(record.cast_path), seconds=5)
    marks = [text for _, code, text in _lines(tmp_path / "one.cast")[1:] if code == "m"]
    assert marks[0] == "run: something"
    assert marks[1].startswith("trouble (kernel panic): ")
    assert marks[1].endswith("Kernel panic - not syncing: no init")


def test_what_is_said_after_the_end_is_lost_and_no_error(tmp_path: Path) -> None:
    with _record(tmp_path) as record:
        record.mark("before")
    record.mark("after")
    record.console(b"after")
    record.monitor("event", {})
    assert "after" not in (tmp_path / "one.cast").read_text()


def test_a_full_disk_costs_the_record_only() -> None:
    full = Path("/dev/full")
    with MachineRecord(full, full, title="full") as record:
        record.console(b"Hello")
        record.monitor("event", {})


def test_a_machine_records_all_its_runs_and_its_monitor(tmp_path: Path) -> None:
    disk = Disk.open(write_guest(tmp_path / "guest.raw", "Hello\n", HALT))
    spec = MachineSpec(disks=(disk,), memory_mib=64, cpus=1, network=False)
    acceleration = Acceleration(Accelerator.TCG, 1.0)
    with (
        _record(tmp_path) as record,
        Machine(spec, acceleration=acceleration, folder=tmp_path, record=record) as machine,
    ):
        for _ in range(2):
            machine.start()
            machine.wait_for_console_text("Hello", seconds=30)
            with pytest.raises(MachineError):
                machine.qemu.monitor.execute("no-such-command")
            machine.power_cut()
    # The end of the line may come too late for the power cut.
    assert _printed(tmp_path / "one.cast").count("Hello") == 2
    marks = [text for _, code, text in _lines(tmp_path / "one.cast")[1:] if code == "m"]
    assert marks == ["power on", "power cut", "power off"] * 2
    monitor = _lines(tmp_path / "one.qmp.jsonl")
    said = [next(kind for kind in entry if kind != "seconds") for entry in monitor]
    assert said.count("refusal") == 2
    assert {"execute": "quit", "arguments": {}} in [entry.get("command") for entry in monitor]
    assert "SHUTDOWN" in [entry["event"]["event"] for entry in monitor if "event" in entry]
    times = [entry["seconds"] for entry in monitor]
    assert times == sorted(times)


def test_a_process_that_is_killed_leaves_all_that_it_saw(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from bootc_build.vm.record import MachineRecord\n"
        "record = MachineRecord(Path('a.cast'), Path('a.jsonl'), title='a')\n"
        "record.console(b'last words'); print('said', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert _printed(tmp_path / "a.cast") == "last words"
