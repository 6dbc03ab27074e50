"""What is told of the next boot, by the deployments."""

import pytest

from bootc_build.onhost.host.next_boot import coming
from bootc_build.onhost.host.status import slots
from bootc_build.onhost.ostree.deployment import Deployment, Overlay


def deployment(index: int, checksum: str, role: str = "") -> Deployment:
    return Deployment(
        index=index,
        stateroot="default",
        checksum=checksum,
        serial=0,
        origin="",
        options="",
        booted=role == "booted",
        staged=role in ("staged", "held"),
        locked=role == "held",
        pinned=False,
        overlay=Overlay.NONE,
        path=f"ostree/deploy/default/deploy/{checksum}.0",
    )


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ((("b", "booted"),), None),
        ((("b", "booted"), ("r", "")), None),
        ((("s", "staged"), ("b", "booted")), "s"),
        ((("s", "held"), ("b", "booted"), ("r", "")), None),
        ((("r", ""), ("b", "booted")), "r"),
        ((("s", "held"), ("r", ""), ("b", "booted")), "r"),
        ((("s", "staged"), ("r", ""), ("b", "booted")), "s"),
    ],
)
def test_reboot_is_required_for_what_the_next_boot_uses(
    order: tuple[tuple[str, str], ...], expected: str | None
) -> None:
    found = slots([deployment(index, *each) for index, each in enumerate(order)])
    assert found is not None
    chosen = coming(found)
    assert (None if chosen is None else chosen.checksum) == expected
