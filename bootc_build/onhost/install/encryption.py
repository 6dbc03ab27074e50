"""A root that only this machine's TPM opens: upstream's block setup ``tpm2-luks``.

The root partition becomes a LUKS 2 volume. Its first key is random and never leaves memory; systemd-cryptenroll(1)
seals a second one in the TPM and removes the first, before anything is written into the volume. At boot the
initramfs opens it: ``luks.uuid=`` and ``luks.options=`` of systemd-cryptsetup-generator(8). /boot stays as it is, so
that GRUB reads it without a key.
"""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from bootc_build.onhost import process
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install import initramfs

TPM: Final = Path("/dev/tpmrm0")
_PACKAGES: Final = "cryptsetup-bin systemd-cryptsetup tpm2-tools"
_REMEDY: Final = f"Install in the Containerfile: {_PACKAGES}"
_PROGRAMS: Final = ("cryptsetup", "systemd-cryptenroll")
# dracut's: the first opens the volume, the second lets it ask the TPM.
_MODULES: Final = (("crypt", "systemd-cryptsetup"), ("tpm2-tss",))
_UDEV: Final = Path("/run/udev/control")
_NAME: Final = "bootc-root"
_KEY_BYTES: Final = 64


@dataclass(frozen=True)
class Volume:
    """An open volume.

    Attributes:
        node: the block device with what is inside.
        kargs: kernel arguments by which the initramfs opens it.
    """

    node: Path
    kargs: tuple[str, ...]


def check() -> None:
    """Make sure that this machine and this image can do it.

    Raises:
        UserError: there is no TPM 2.0, or the image lacks programs, or its initramfs would not open the root.
    """
    if not TPM.exists():
        raise UserError(
            f"The block setup tpm2-luks needs a TPM 2.0, and this machine has none ({TPM} is not there).",
            "Switch it on in the firmware, give the container -v /dev:/dev, or use --block-setup direct.",
        )
    for program in _PROGRAMS:
        process.find_program(program, _REMEDY)
    initramfs.check(_MODULES, _REMEDY)


@contextmanager
def made(node: Path) -> Iterator[Volume]:
    """Make a block device a volume whose one key is the TPM's, and have it open.

    Args:
        node: what is on it is lost.

    Raises:
        UserError: the TPM refuses, or the kernel has no device mapper.
    """
    uuid = str(uuid4())
    # In a container udev is not there to answer, and the device mapper would wait for it.
    env = {} if _UDEV.exists() else {"DM_DISABLE_UDEV": "1"}
    with _key() as key:
        process.run(
            [
                *("cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--uuid", uuid),
                # Nothing is gained by stretching a key that is random, and argon2 takes a GiB.
                *("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"),
                *("--key-file", str(key), str(node)),
            ],
            env=env,
        )
        process.run(
            ["cryptsetup", "open", "--key-file", str(key), str(node), _NAME],
            env=env,
            remedy="Encryption takes a kernel with dm-crypt; in a container also --privileged and -v /dev:/dev.",
        )
        try:
            process.run(
                [
                    *("systemd-cryptenroll", "--wipe-slot=all", "--tpm2-device=auto"),
                    *(f"--unlock-key-file={key}", str(node)),
                ],
                env=env,
                remedy="The TPM may be locked or full: tpm2_clear empties one that nobody needs.",
            )
            options = "luks.options=tpm2-device=auto,headless=true"
            yield Volume(Path("/dev/mapper", _NAME), (f"luks.uuid={uuid}", options))
        finally:
            process.run(["cryptsetup", "close", "--deferred", _NAME], check=False, env=env)


@contextmanager
def _key() -> Iterator[Path]:
    """A random key in a file in memory, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="bootc-key-", dir="/run") as folder:
        path = Path(folder, "key")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        yield path
