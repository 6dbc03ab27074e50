"""An image to upgrade to, made for the purpose: with another initramfs, so that /boot changes as well."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from bootc_build.onhost.errors import UserError
from bootc_build.tools.buildah import remove_image, working_container

# An archive of cpio's "newc" format with nothing in it but its end: the kernel unpacks what follows an initramfs too.
_EMPTY_ARCHIVE = b"070701" + b"0" * 32 + b"00000001" + b"0" * 48 + b"0000000B" + b"0" * 8
_EMPTY_ARCHIVE = (_EMPTY_ARCHIVE + b"TRAILER!!!\0").ljust(512, b"\0")
_ALIGNMENT = 4


@contextmanager
def with_another_initramfs(image: str) -> Iterator[str]:
    """An image that boots like another, from another initramfs and with one file more; its name. Gone afterwards.

    Raises:
        UserError: the image is not in local storage, or has not one kernel.
    """
    with working_container(image) as container:
        tree = container.mount()
        found = list(tree.glob("usr/lib/modules/*/initramfs.img"))
        if len(found) != 1:
            raise UserError(f"The image '{image}' has {len(found)} initramfs files, not one.")
        with found[0].open("ab") as file:
            file.write(bytes(-file.tell() % _ALIGNMENT) + _EMPTY_ARCHIVE)
        marker = tree / "usr/share/bootc-build/crash-points"
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text("made for a test of upgrades\n")
        # A name of its own: who makes the same at the same time gets the same image, and removes only his name.
        name = f"localhost/bootc-build-another-initramfs:{secrets.token_hex(8)}"
        container.commit(name, timestamp=1)
    try:
        yield name
    finally:
        remove_image(name)
