"""What is said when an image was queued; upgrade and switch share it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bootc_build.onhost.host.stage import Queued


def print_queued(queued: "Queued") -> None:
    """Name the image, its version and its digest."""
    print(f"Queued for next boot: {queued.image.display}")
    if queued.version is not None:
        print(f"  Version: {queued.version}")
    print(f"  Digest: {queued.digest}")
