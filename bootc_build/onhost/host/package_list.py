"""Which packages a system tree has: by dpkg's database or by rpm's. The tree need not be booted."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bootc_build.onhost import process

_DPKG: Final = ("usr/lib/sysimage/dpkg/status", "var/lib/dpkg/status")
_RPM: Final = ("usr/share/rpm", "usr/lib/sysimage/rpm", "var/lib/rpm")
_RPM_QUERY: Final = "%{NAME}\\t%{EVR}\\t%{ARCH}\\n"
_FIELD: Final = re.compile(r"^(Package|Status|Version|Architecture): *(.*)$", re.MULTILINE)

Packages = Mapping[
    str, str
]  # name, with its architecture behind a colon where it needs one, to version


@dataclass(frozen=True)
class PackageChanges:
    """Packages that came and went (name to version), and those of another version (old and new)."""

    added: Packages
    removed: Packages
    changed: Mapping[str, tuple[str, str]]


def compare_packages(old: Packages, new: Packages) -> PackageChanges:
    """What another system has more, less and in another version."""
    return PackageChanges(
        added={name: new[name] for name in sorted(new.keys() - old.keys())},
        removed={name: old[name] for name in sorted(old.keys() - new.keys())},
        changed={
            name: (old[name], new[name])
            for name in sorted(old.keys() & new.keys())
            if old[name] != new[name]
        },
    )


def read_packages(root: Path) -> Packages | None:
    """The packages of a system tree; None where it has no database that can be read here."""
    for path in _DPKG:
        file = root / path
        if file.is_file():
            return parse_dpkg(file.read_text(errors="replace"))
    for path in _RPM:
        database = root / path
        # An empty directory is left by tools that only might have used rpm.
        if database.is_dir() and any(database.iterdir()):
            return _read_rpm(database)
    return None


def parse_dpkg(status: str) -> Packages:
    """The installed packages of dpkg's ``status`` file (deb-status(5))."""
    found: dict[str, dict[str, str]] = {}
    for paragraph in re.split(r"\n\s*\n", status):
        fields = dict(_FIELD.findall(paragraph))
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            versions = found.setdefault(fields["Package"], {})
            versions[fields.get("Architecture", "")] = fields.get("Version", "")
    return _flat(found)


def parse_rpm(listing: str) -> Packages:
    """Packages of lines of name, version and architecture, parted by tabs."""
    found: dict[str, dict[str, str]] = {}
    for line in listing.splitlines():
        name, version, architecture = line.split("\t")
        versions = found.setdefault(name, {})
        # Several versions of a kernel, and of a key, may be installed beside each other.
        known = versions.get(architecture)
        versions[architecture] = version if known is None else f"{known}, {version}"
    return _flat(found)


def _flat(found: Mapping[str, Mapping[str, str]]) -> Packages:
    return {
        f"{name}:{architecture}" if len(versions) > 1 else name: version
        for name, versions in found.items()
        for architecture, version in versions.items()
    }


def _read_rpm(database: Path) -> Packages | None:
    try:
        done = process.run(
            ["rpm", "--query", "--all", f"--dbpath={database}", f"--queryformat={_RPM_QUERY}"]
        )
    except (process.MissingProgramError, process.CommandError):
        return None
    return parse_rpm(done.stdout)
