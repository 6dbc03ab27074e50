"""Which file keeps libostree from reading a sysroot: what it says itself does not always name it, nor what helps."""

import os
from contextlib import suppress
from pathlib import Path

import gi

from bootc_build.onhost.ostree.sysroot_files import (
    DANGLING_REMEDY,
    SysrootFiles,
    UnknownLayoutError,
)

gi.require_version("OSTree", "1.0")
from gi.repository import GLib  # noqa: E402 - the version has to be chosen first


def remedy(sysroot: Path) -> str:
    """What to mend, where an origin file is damaged or a boot entry leads to no deployment; else empty."""
    for file in sorted(sysroot.glob("ostree/deploy/*/deploy/*.origin")):
        try:
            text = file.read_text()
            GLib.KeyFile.new().load_from_data(text, len(text.encode()), GLib.KeyFileFlags.NONE)
        except UnicodeDecodeError:
            return _mend(file, "it is not UTF-8")
        except GLib.Error as error:
            return _mend(file, error.message)
        except OSError:
            continue
    with suppress(UnknownLayoutError):
        if SysrootFiles(os.fspath(sysroot)).deployments_left()[1]:
            return DANGLING_REMEDY
    return ""


def _mend(file: Path, what: str) -> str:
    return (
        f"Mend the origin file {file}: {what}.\n"
        "It has the line [origin] and then: container-image-reference=ostree-unverified-registry:IMAGE"
    )
