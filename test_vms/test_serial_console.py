"""Everything over ttyS0, with real kernels: a login and a storm of kernel messages."""

import random
from pathlib import Path

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.machine import Machine
from test_vms.tiny_guest import TinyGuest

_STORM = "while :; do echo '<1>storm of kernel messages' > /dev/kmsg; done"
_BINARY = random.Random(3).randbytes(12_000)  # noqa: S311 - any bytes do


@pytest.fixture
def guest(bootc_vm: MachineFactory, tiny_guest: TinyGuest) -> Machine:
    """A guest that knows no credentials: its account has logged in."""
    return bootc_vm(tiny_guest.disk, spec=tiny_guest.spec())


def test_an_account_logs_in_where_credentials_are_not_known(guest: Machine) -> None:
    assert not guest.has_lane
    assert any("tiny login: root" in line.text for line in guest.console.history)
    assert guest.succeed("id -un; tty < /dev/ttyS0") == "root\n/dev/ttyS0\n"


def test_a_storm_of_kernel_messages_harms_no_byte(guest: Machine, tmp_path: Path) -> None:
    guest.succeed(f'setsid sh -c "{_STORM}" > /dev/null 2>&1 & echo $! > /run/storm')
    guest.wait_for_console_text("storm of kernel messages")
    (tmp_path / "binary").write_bytes(_BINARY)
    guest.copy_in(tmp_path / "binary", "/run/binary")
    done = guest.execute("cat /run/binary; seq 300 >&2; exit 3")
    assert (done.status, done.stdout) == (3, _BINARY)
    assert done.error_text == "".join(f"{number}\n" for number in range(1, 301))
    # It was not over before.
    guest.succeed("kill $(cat /run/storm)")
