"""A machine for the rehearsal's checks that is none: it keeps book of what is done to it, and does one thing wrong.

A conftest.py that imports everything from here puts it in place of the real one; $PRETEND_FAULT names the fault.
"""

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from bootc_build.onhost.errors import UserError

__all__ = ["bootc_image", "bootc_next_image", "bootc_registry_module", "bootc_vm_module"]

_STATE = {"/etc/machine-id": "c0ffee", "/etc/ssh/ssh_host_ed25519_key": "-rw------- 0:0 1234"}
_FIRST = SimpleNamespace(name="os:1")
_NEXT = SimpleNamespace(name="os:2")


class PretendHost:
    """What the checks use of a Machine."""

    def __init__(self) -> None:
        self.fault = os.environ.get("PRETEND_FAULT", "")
        self.bootc = PretendBootc(self)
        self.state = dict(_STATE)
        self.upgraded = self.rolled_back = False

    def succeed(self, command: str, *, seconds: float = 0) -> str:
        del seconds
        if "is-system-running" in command:
            hangs = self.fault == "hangs after the upgrade" and self.upgraded
            return "starting\n" if hangs else "running\n"
        if "tell /etc/machine-id" in command:
            return "".join(f"{name}\t{value}\n" for name, value in self.state.items())
        if "after the upgrade" in command:
            self.state["later"] = "here"
        return ""

    def execute(self, command: str) -> SimpleNamespace:
        return SimpleNamespace(text=f"the log of {command.rsplit(maxsplit=1)[-1]}\n", status=0)

    def failed_units(self) -> list[str]:
        always = self.fault == "a unit fails"
        later = self.fault == "a unit fails after the upgrade" and self.upgraded
        return ["broken.service"] if always or later else []

    def reboot(self) -> None:
        bootc = self.bootc
        if bootc.goes_back and self.fault != "the rollback does nothing":
            bootc.swap()
            self.upgraded, self.rolled_back = False, True
            if self.fault == "the rollback forgets":
                del self.state["later"]
        elif bootc.queued is not None:
            if self.fault != "another image boots":
                bootc.swap()
            self.upgraded = True
            if self.fault == "the upgrade forgets":
                self.state["/etc/machine-id"] = "decaf"
        bootc.queued, bootc.goes_back = None, False


class PretendBootc:
    """What the checks use of a BootcCommand."""

    def __init__(self, host: PretendHost) -> None:
        self._host = host
        self.runs, self.other = _FIRST, _NEXT
        self.queued: SimpleNamespace | None = None
        self.goes_back = False

    def swap(self) -> None:
        self.runs, self.other = self.other, self.runs

    @property
    def booted(self) -> SimpleNamespace:
        return _deployed(self.runs)

    @property
    def staged(self) -> SimpleNamespace:
        return _deployed(self.queued)

    @property
    def rollback_target(self) -> SimpleNamespace:
        return _deployed(self.other)

    def status(self) -> SimpleNamespace:
        by_itself = self._host.fault == "something is staged"
        return SimpleNamespace(staged=self.runs if by_itself else self.queued)

    def upgrade(self, *, seconds: float) -> str:
        del seconds
        fault = self._host.fault
        if fault == "no upgrade" or (fault == "no second upgrade" and self._host.rolled_back):
            raise UserError("'bootc upgrade' failed with status 1:\nno space left on device")
        if not self._host.upgraded or fault == "the same is staged again":
            self.queued = self.other
        return ""

    def rollback(self) -> str:
        self.goes_back = True
        return ""


def _deployed(image: SimpleNamespace | None) -> SimpleNamespace:
    return SimpleNamespace(image=image, digest="sha256:0")


@pytest.fixture(scope="session")
def bootc_image() -> SimpleNamespace:
    return _FIRST


@pytest.fixture(scope="session")
def bootc_next_image() -> SimpleNamespace:
    return _NEXT


@pytest.fixture(scope="module")
def bootc_registry_module() -> SimpleNamespace:
    return SimpleNamespace(push=lambda _image, _name: "sha256:0")


@pytest.fixture(scope="module")
def bootc_vm_module() -> Callable[..., Any]:
    def boot(image: SimpleNamespace, *, origin: str) -> PretendHost:
        assert (image, origin) == (_FIRST, "os:rehearsal")
        if os.environ.get("PRETEND_FAULT") == "no boot":
            raise UserError("The machine is in trouble (panic): Kernel panic - not syncing")
        return PretendHost()

    return boot
