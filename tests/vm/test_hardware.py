"""What hands do to a machine, with a guest of 512 bytes in a real QEMU."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.vm.accel import Acceleration, Accelerator
from bootc_build.vm.errors import ConsoleBadnessError, MachineError
from bootc_build.vm.machine import Machine
from bootc_build.vm.network import PrivateNetwork
from bootc_build.vm.spec import Disk, DiskFormat, Firmware, MachineSpec
from bootc_build.vm.waiting import wait_until
from tests.vm.boot_sectors import ECHO, write_guest

Make = Callable[..., Machine]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Starts a machine that prints what is typed."""
    with ExitStack() as stack:

        def start(**wishes: object) -> Machine:
            guest = write_guest(tmp_path / "guest.raw", "Ready\n", ECHO)
            spec = MachineSpec((Disk(guest, DiskFormat.RAW),), memory_mib=64, cpus=1)
            spec = replace(spec, **wishes)  # type: ignore[arg-type]
            acceleration = Acceleration(Accelerator.TCG, 1.0)
            one = stack.enter_context(Machine(spec, acceleration=acceleration, folder=tmp_path))
            one.start()
            one.wait_for_console_text("Ready", seconds=60)
            return one

        yield start


def _processes_of(folder: Path) -> list[int]:
    """The processes whose command line names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_screenshot_is_a_picture(make: Make, tmp_path: Path) -> None:
    target = make().screenshot(tmp_path / "screen.png")
    assert target.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    # More than one colour: SeaBIOS has said something.
    assert target.stat().st_size > 1000


def test_a_screenshot_that_cannot_be_written_is_told(make: Make, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="screendump"):
        make().screenshot(tmp_path / "nowhere/screen.png")


def test_the_cable_of_a_card_can_be_pulled(make: Make) -> None:
    machine = make()
    machine.link(up=False)
    with pytest.raises(MachineError, match="no network card 7"):
        machine.link(up=False, card=7)
    with machine.link_down():
        pass
    notes = machine.log_path.read_text()
    assert notes.count("link down") == 2
    assert notes.count("link up") == 1


def test_a_guest_that_ignores_the_power_button_loses_its_power(make: Make) -> None:
    machine = make()
    process = machine.qemu.process_id
    assert not machine.soft_kill(seconds=0.2)
    assert not Path(f"/proc/{process}").exists()
    with pytest.raises(MachineError, match="is off"):
        machine.press_power_button()


def test_a_machine_with_a_tpm_has_one_for_as_long_as_it_is_on(make: Make, tmp_path: Path) -> None:
    machine = make(tpm=True)
    [tpm] = machine.qemu.monitor.execute("query-tpm")
    assert tpm["model"] == "tpm-crb"
    assert len(_processes_of(tmp_path)) == 2  # QEMU and swtpm
    machine.power_cut()
    assert wait_until(lambda: _processes_of(tmp_path) == [], seconds=20)
    machine.start()
    machine.wait_for_console_text("Ready", seconds=60)
    os.kill(machine.qemu.process_id, signal.SIGKILL)
    assert wait_until(lambda: _processes_of(tmp_path) == [], seconds=20)


def test_a_machine_without_the_program_for_its_tpm_says_what_to_install(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    qemu = tmp_path / "bin"
    qemu.mkdir()
    for name in ("qemu-system-x86_64", "qemu-img"):
        (qemu / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(qemu))
    monkeypatch.setattr("bootc_build.onhost.process._SBIN", (), raising=False)
    with pytest.raises(UserError, match="swtpm") as caught:
        make(tpm=True)
    assert "apt-get install swtpm" in caught.value.remedy


def test_machines_on_a_private_network_have_a_card_each(make: Make) -> None:
    with PrivateNetwork() as network:
        one = make(name="one", private_networks=(network,))
        two = make(name="two", private_networks=(network,))
        cards = []
        for machine in (one, two):
            found = machine.qemu.monitor.execute("query-rx-filter")
            addresses = [card["main-mac"] for card in found]
            assert sorted(addresses) == sorted([machine.spec.mac(0), machine.spec.mac(1)])
            cards += addresses
        assert len(set(cards)) == 4
        one.link(up=False, card=1)
        one.power_cut()
        assert wait_until(lambda: len(network._ports) == 1, seconds=20)


def test_trouble_that_is_allowed_is_none_until_the_end_of_the_block(make: Make) -> None:
    machine = make()
    with machine.trouble_allowed("EXT4-fs error.*vdb"):
        machine.console.send("EXT4-fs error (device vdb)\n")
        machine.wait_for_console_text(r"device vdb\)", seconds=30)
        machine.console.expect_exact(b"vdb)\n", timeout=30)
        machine.console.check(now=True)
        machine.console.send("EXT4-fs error (device vda)\n")
        with pytest.raises(ConsoleBadnessError, match="vda"):
            machine.wait_for_console_text("never", seconds=30)


def test_trouble_that_is_allowed_no_more_is_trouble(make: Make) -> None:
    machine = make()
    with machine.trouble_allowed("vdb"):
        pass
    machine.console.send("EXT4-fs error (device vdb)\n")
    with pytest.raises(ConsoleBadnessError, match="vdb"):
        machine.wait_for_console_text("never", seconds=30)


def test_trouble_of_the_boot_that_a_snapshot_is_of_is_trouble_now(make: Make) -> None:
    machine = make()
    machine.console.recall([(1.0, "EXT4-fs error (device vda)"), (2.0, "login:")])
    with pytest.raises(ConsoleBadnessError, match="vda"):
        machine.console.check(now=True)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"architecture": "pdp11"}, "no architecture"),
        ({"architecture": "aarch64", "firmware": Firmware.BIOS}, "no BIOS"),
    ],
)
def test_a_platform_that_cannot_be_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        MachineSpec(**wrong)  # type: ignore[arg-type]
