"""The pytest plugin, by test runs of its own."""

from pathlib import Path

import pytest

from tests.vm.boot_sectors import write_guest

pytest_plugins = ["pytester"]

_TEST = """
from pathlib import Path
from bootc_build.vm.spec import MachineSpec

SMALL = MachineSpec(name="small", memory_mib=64, cpus=1, network=False)

def test_it(bootc_vm):
    machine = bootc_vm(Path("guest.raw"), spec=SMALL, boot=False)
    machine.start()
    print("qemu", machine.qemu.process_id)
    machine.wait_for_console_text("Hello", seconds=30)
    assert {outcome}
"""


def _run(pytester: pytest.Pytester, outcome: str, *options: str) -> pytest.RunResult:
    write_guest(pytester.path / "guest.raw", "Hello from the guest\n")
    pytester.makepyfile(_TEST.format(outcome=outcome))
    return pytester.runpytest_subprocess(
        "-rP", "--bootc-accel=tcg", "--bootc-artifacts=artifacts", *options
    )


def _logs(pytester: pytest.Pytester) -> list[Path]:
    return list((pytester.path / "artifacts").rglob("*.console.log"))


def _no_machine_is_left(result: pytest.RunResult) -> None:
    [qemu] = [line.split()[1] for line in result.outlines if line.startswith("qemu ")]
    assert not Path(f"/proc/{qemu}").exists()


def test_a_failure_shows_the_console_and_names_its_log(pytester: pytest.Pytester) -> None:
    result = _run(pytester, "False")
    result.assert_outcomes(failed=1)
    _no_machine_is_left(result)
    [log] = _logs(pytester)
    assert "Hello from the guest" in log.read_text()
    result.stdout.fnmatch_lines(
        ["*machine 'small'*", f"console log: {log}", "*Hello from the guest"]
    )


@pytest.mark.parametrize(("options", "kept"), [((), 0), (("--bootc-keep=all",), 1)])
def test_the_log_of_a_test_that_passed_stays_only_on_request(
    pytester: pytest.Pytester, options: tuple[str, ...], kept: int
) -> None:
    result = _run(pytester, "True", *options)
    result.assert_outcomes(passed=1)
    _no_machine_is_left(result)
    assert len(_logs(pytester)) == kept


def test_an_origin_without_a_host_needs_the_tests_own_registry(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from bootc_build.onhost.errors import UsageError

        def test_it(bootc_vm):
            for origin in ("os:stable", "team/os:stable"):
                with pytest.raises(UsageError, match="names no registry"):
                    bootc_vm("localhost/os:1", origin=origin)
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
