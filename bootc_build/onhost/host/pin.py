"""Keep a deployment from being collected."""

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import signals
from bootc_build.onhost.host.booted import BootedSystem
from bootc_build.onhost.host.cleanup import clean_up
from bootc_build.onhost.host.status import Slots
from bootc_build.onhost.ostree.deployment import Deployment


def chosen(slots: Slots, which: str) -> Deployment:
    """The deployment that is meant by ``booted``, ``staged``, ``rollback`` or its index in the boot order.

    Raises:
        UserError: there is none such.
    """
    roles = {"booted": slots.booted, "staged": slots.staged, "rollback": slots.rollback}
    known = {each.index: each for each in (*roles.values(), *slots.other) if each is not None}
    found = roles.get(which) or (known.get(int(which)) if which.isdecimal() else None)
    if found is None:
        here = [
            *(role for role, each in roles.items() if each is not None),
            *map(str, sorted(known)),
        ]
        raise UserError(f"There is no deployment '{which}'.", f"There are: {', '.join(here)}.")
    return found


def set_pinned(system: BootedSystem, which: str, *, pinned: bool) -> tuple[Deployment, bool]:
    """Pin or unpin a deployment; one that only its pin kept is removed at once.

    Returns:
        The deployment, and whether that changed anything.

    Raises:
        UserError: there is no such deployment, or it is staged only.
    """
    deployment = chosen(system.slots, which)
    if deployment.staged:
        raise UserError(
            "A staged deployment cannot be pinned: it becomes one with the next reboot.",
            "Reboot into it first.",
        )
    if deployment.pinned == pinned:
        return deployment, False
    system.sysroot.set_pinned(deployment, pinned=pinned)
    if not pinned:
        _drop(system, deployment)
        clean_up(system.sysroot)
    signals.status_changed(system.sysroot.path)
    return deployment, True


def _drop(system: BootedSystem, unpinned: Deployment) -> None:
    """Take a deployment that has no role any more out of the boot order; libostree would at the next upgrade."""
    slots = system.slots
    if unpinned in slots.other and unpinned.stateroot == slots.booted.stateroot:
        kept = [each for each in system.sysroot.deployments() if each.index != unpinned.index]
        system.sysroot.write_order(kept)
