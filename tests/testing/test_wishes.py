"""Markers, options and the configuration file, by test runs of their own."""

from pathlib import Path

import pytest

from tests.vm.boot_sectors import write_guest

pytest_plugins = ["pytester"]

_SMALL = "MachineSpec(name='small', memory_mib=64, cpus=1, network=False)"


@pytest.fixture(autouse=True)
def _private(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOTC_BUILD_ACCEL", "tcg")
    write_guest(pytester.path / "guest.raw", "Hello from the guest\n")
    # Machines of other tests on this computer do not count here.
    pytester.makeconftest(
        f"""
        from pathlib import Path
        from bootc_build.vm import slots
        slots._runtime_folder = lambda: Path({str(pytester.path / "slots")!r})
        """
    )


def _run(pytester: pytest.Pytester, body: str, *options: str, ini: str = "") -> pytest.RunResult:
    pytester.makeini(f"[pytest]\n{ini}")
    pytester.makepyfile(
        f"""
        import time
        from pathlib import Path
        import pytest
        from bootc_build.vm.slots import Slots
        from bootc_build.vm.spec import Firmware, MachineSpec

        GUEST = Path({str(pytester.path / "guest.raw")!r})
        SMALL = {_SMALL}
        """
        + body
    )
    return pytester.runpytest_subprocess(*options)


def test_a_marker_says_what_machines_are_made_of(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
        pytestmark = pytest.mark.bootc_vm(memory=96, firmware="uefi")

        @pytest.mark.bootc_vm(memory=128, cpus=3)
        def test_it(bootc_vm):
            spec = bootc_vm(GUEST, boot=False).spec
            assert (spec.memory_mib, spec.cpus, spec.firmware) == (128, 3, Firmware.UEFI)
            assert bootc_vm(GUEST, boot=False, firmware="bios").spec.firmware is Firmware.BIOS

        def test_without_one_of_its_own(bootc_vm):
            assert bootc_vm(GUEST, boot=False, spec=SMALL).spec.memory_mib == 96
        """,
    )
    result.assert_outcomes(passed=2)


def test_a_marker_with_an_unknown_wish_is_told(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
        @pytest.mark.bootc_vm(ram=96)
        def test_it(bootc_vm):
            pass
        """,
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*bootc_vm takes cpus, firmware, machines, memory, tpm*"])


def test_a_test_that_takes_too_long_fails_and_leaves_no_machine(
    pytester: pytest.Pytester,
) -> None:
    result = _run(
        pytester,
        """
        @pytest.mark.bootc_timeout(0.5)
        def test_it(bootc_vm):
            machine = bootc_vm(GUEST, boot=False, spec=SMALL)
            machine.start()
            print("qemu", machine.qemu.process_id)
            machine.wait_for_console_text("never", seconds=300)

        def test_without_a_limit():
            time.sleep(0.1)
        """,
        "-rf",
    )
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*took longer than*bootc_timeout(0.5)*"])
    [qemu] = [line.split()[1] for line in result.outlines if line.startswith("qemu ")]
    assert not Path(f"/proc/{qemu}").exists()


def test_the_limit_holds_in_fixtures_and_not_in_their_teardown(pytester: pytest.Pytester) -> None:
    result = _run(
        pytester,
        """
        @pytest.fixture
        def slow():
            while True:
                time.sleep(0.01)
            yield

        @pytest.fixture
        def slow_to_end():
            yield
            time.sleep(3)

        @pytest.mark.bootc_timeout(0.1)
        def test_setup(slow):
            pass

        @pytest.mark.bootc_timeout(0.1)
        def test_teardown(slow_to_end):
            pass
        """,
    )
    result.assert_outcomes(errors=1, passed=1)


def test_waiting_for_a_slot_is_not_the_tests_own_time(pytester: pytest.Pytester) -> None:
    """Somebody else has the only slot until this test has waited for longer than it may take."""
    result = _run(
        pytester,
        """
        import subprocess, sys, threading
        HOLDER = '''
        import sys
        from pathlib import Path
        from bootc_build.vm.slots import Slots
        with Slots(1, folder=Path("slots").absolute()).claimed("other", cpus=1, memory_mib=1, wait=False):
            print("has", flush=True)
            sys.stdin.read()
        '''

        @pytest.mark.bootc_timeout(0.3)
        def test_it(bootc_vm):
            import textwrap
            argv = [sys.executable, "-c", textwrap.dedent(HOLDER)]
            with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
                other.stdout.readline()
                threading.Timer(6, other.stdin.close).start()
                begun = time.monotonic()
                bootc_vm(GUEST, boot=False, spec=SMALL)
                assert time.monotonic() - begun > 5
        """,
        "--bootc-slots=1",
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("wrong", ["0", "two"])
def test_a_wrong_number_of_slots_is_told(pytester: pytest.Pytester, wrong: str) -> None:
    result = _run(
        pytester,
        """
        def test_it(bootc_vm):
            pass
        """,
        f"--bootc-slots={wrong}",
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*--bootc-slots {wrong} is no number of machines*"])


def test_options_can_stand_in_the_configuration_file(pytester: pytest.Pytester) -> None:
    body = """
        def test_it(bootc_vm, bootc_artifacts):
            machine = bootc_vm(GUEST, boot=False, spec=SMALL)
            machine.start()
            machine.wait_for_console_text("Hello", seconds=60)
        """
    result = _run(pytester, body, ini="bootc_artifacts = left\nbootc_keep = all\nbootc_accel = tcg")
    result.assert_outcomes(passed=1)
    assert list((pytester.path / "left").rglob("*.log"))
    wrong = _run(pytester, body, ini="bootc_accel = warp")
    wrong.assert_outcomes(errors=1)
    wrong.stdout.fnmatch_lines(["*'warp' is no value for bootc_accel*"])
