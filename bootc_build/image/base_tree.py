"""The layout of a base image: what turns Debian's file tree into one that a deployment can be made of.

Works on a mounted tree from outside and never follows a link in it to somewhere else.
"""

import os
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.resources import as_file, files
from pathlib import Path

from bootc_build.image.sysusers import UserTable, parse_sysusers, read_passwd
from bootc_build.onhost.errors import UserError

USERS_TABLE = "usr/lib/sysusers.d/00-bootc-base.conf"
_EXTRA_USERS = "usr/lib/sysusers.d/01-bootc-packages.conf"
_DPKG_CONFIGURATION = "etc/dpkg/dpkg.cfg.d/bootc"
_SYSIMAGE = "usr/lib/sysimage"
_UNITS_OF_NEWER_SUITES = ("sshd-keygen.service", "tmp.mount")
_SHADOW_GID = 42
_SECONDS_PER_DAY = 86400

# The package system's state: it describes /usr, so it must change with it and not stay in /var.
# path in /var -> name below /usr/lib/sysimage; tmpfiles.d/bootc-base.conf makes the same links.
PACKAGE_STATE = {
    "var/lib/dpkg": "dpkg",
    "var/lib/pam": "pam",
    "var/lib/ucf": "ucf",
    "var/lib/python": "python",
    "var/lib/shells.state": "shells.state",
    "var/lib/systemd/deb-systemd-helper-enabled": "deb-systemd-helper-enabled",
    "var/lib/systemd/deb-systemd-helper-masked": "deb-systemd-helper-masked",
    "var/lib/systemd/deb-systemd-user-helper-enabled": "deb-systemd-user-helper-enabled",
    "var/cache/debconf": "debconf",
}
# top-level directory -> (link, directory that holds its content)
TOP_LEVEL_LINKS = {
    "home": ("var/home", "var/home"),
    "root": ("var/roothome", "var/roothome"),
    "srv": ("var/srv", "var/srv"),
    "mnt": ("var/mnt", "var/mnt"),
    "opt": ("usr/lib/opt", "usr/lib/opt"),
    "media": ("run/media", None),
    "ostree": ("sysroot/ostree", None),
}
# Made by packages at build time; each machine makes its own, or nobody needs it.
_DROP = (
    "etc/hostname",
    "etc/resolv.conf",
    "etc/.resolv.conf.systemd-resolved.bak",
    "etc/apt/sources.list",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/catalog",
    "var/lib/systemd/network",
    "var/lib/systemd/pstore",
    "var/lib/systemd/ephemeral-trees",
    "var/lib/systemd/coredump",
    "var/lib/dracut",
    "var/lib/grub",
    "var/lib/sudo",
    "var/lib/apt/mirrors",
    "var/lib/apt/periodic",
    "var/cache/adduser",
    "var/lib/vim",
    "var/lib/xfsprogs",
    "var/log/README",
    "var/log/runit",
    "var/log/btmp",
    "var/log/wtmp",
    "var/log/lastlog",
    "var/lib/wtmpdb",
)


def seed_tree(tree: Path) -> None:
    """Put what must be there before any package is configured: users, groups, configuration of dpkg and kernel.

    The files of the image lie beneath the packages' own: dpkg keeps a configuration file that exists.
    """
    copy_image_root(tree)
    # The build machine's apt reads this too, and would take its paths for the machine's own.
    shutil.rmtree(tree / "etc/apt")
    table = parse_sysusers((tree / USERS_TABLE).read_text())
    _write(tree / "etc/passwd", table.passwd())
    _write(tree / "etc/group", table.group())
    for path in tree.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)


def prune_excluded(root: Path) -> None:
    """Remove what dpkg's path-exclude lines name.

    dpkg heeds them, but mmdebstrap unpacks the essential packages without it, and would need a filter as
    slow as everything else together for the same result.
    """
    rules = []
    for line in (root / _DPKG_CONFIGURATION).read_text().splitlines():
        kind, _, pattern = line.partition("=")
        if kind in {"path-exclude", "path-include"}:
            rules.append((kind == "path-exclude", pattern.removeprefix("/")))
    for top in sorted({pattern.partition("*")[0] for exclude, pattern in rules if exclude}):
        if top.endswith("/") and (root / top).is_dir():
            _prune(root, root / top, rules)


def _prune(root: Path, folder: Path, rules: list[tuple[bool, str]]) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
            continue
        name = str(path.relative_to(root))
        excluded = False
        for exclude, pattern in rules:  # the last rule that matches wins, as in dpkg
            if fnmatch(name, pattern):
                excluded = exclude
        if excluded:
            path.unlink()


def copy_image_root(tree: Path) -> None:
    """Copy ``bootc_build/data/image_root`` and the on-host agent into the tree, with fixed modes."""
    with as_file(files("bootc_build").joinpath("data/image_root")) as image_root:
        _copy_tree(image_root, tree)
    agent = tree / "usr/lib/bootc/python/bootc_build"
    with as_file(files("bootc_build")) as package:
        _copy_file(package / "__init__.py", agent / "__init__.py")
        _copy_tree(package / "onhost", agent / "onhost")
    # The container storage of bootc, where podman looks for bound images. Last: its folder came with the agent.
    storage = tree / "usr/lib/bootc/storage"
    if not storage.is_symlink():
        storage.symlink_to("../../../sysroot/ostree/bootc/storage")


def _copy_tree(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            _copy_file(path, target / path.relative_to(source))


def _copy_file(source: Path, target: Path) -> None:
    # Modes come from the content: an installed Python package does not keep them reliably.
    data = source.read_bytes()
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_bytes(data)
    target.chmod(0o755 if data.startswith(b"#!") else 0o644)


def move_package_state(root: Path) -> None:
    """Move the package system's state below /usr and leave links."""
    (root / _SYSIMAGE / "apt").mkdir(parents=True, exist_ok=True)
    for old, name in PACKAGE_STATE.items():
        place, new = root / old, root / _SYSIMAGE / name
        if not place.is_symlink():
            if place.exists():
                shutil.move(place, new)
            else:
                new.mkdir()
                place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.path.relpath(new, place.parent))
    states = root / "var/lib/apt/extended_states"
    if states.exists():
        shutil.move(states, root / _SYSIMAGE / "apt/extended_states")


def link_top_level(root: Path) -> None:
    """Replace the top-level directories for users and services by links, and make those that ostree wants.

    Raises:
        UserError: a package put files where a link must be.
    """
    for name, (link, holder) in TOP_LEVEL_LINKS.items():
        place = root / name
        if place.is_symlink():
            continue
        if holder is not None:
            (root / holder).mkdir(
                mode=0o700 if name == "root" else 0o755, parents=True, exist_ok=True
            )
        if place.exists():
            _empty_into(place, root / holder if holder == "usr/lib/opt" else None)
            place.rmdir()
        place.symlink_to(link)
    for name, mode in (("sysroot", 0o755), ("boot", 0o755), ("usr/local", 0o755)):
        (root / name).mkdir(mode=mode, exist_ok=True)
    for link in ("vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"):
        (root / link).unlink(missing_ok=True)


def _empty_into(place: Path, keep: Path | None) -> None:
    for entry in sorted(place.iterdir()):
        if keep is not None:
            shutil.move(entry, keep / entry.name)
        elif place.name == "root":
            _remove(entry)  # skeleton files and caches of the build
        else:
            raise UserError(
                f"A package put /{place.name}/{entry.name} into the image, but /{place.name} belongs to each machine.",
                "Leave that package out of the base image.",
            )


def add_missing_units(root: Path) -> None:
    """Add the units that our presets and drop-ins count on where an older suite has none."""
    for name in _UNITS_OF_NEWER_SUITES:
        unit = root / "usr/lib/systemd/system" / name
        if not unit.exists():
            _copy_file(root / "usr/share/bootc" / name, unit)


def write_sources(root: Path, stanzas: str) -> None:
    """Write apt's sources for derived images."""
    _write(root / "etc/apt/sources.list.d/debian.sources", stanzas)


def scrub(root: Path, epoch: int) -> None:
    """Remove or fix what differs from one build to the next, and what each machine makes for itself.

    Args:
        root: the tree.
        epoch: seconds; its day becomes the day of every password change.
    """
    for name in _DROP:
        _remove(root / name)
    for pattern in (
        "etc/ssh/ssh_host_*",
        "etc/*-",
        "etc/.*.lock",
        "var/log/*.log*",
        "var/log/apt/*",
    ):
        for path in root.glob(pattern):
            _remove(path)
    for name in (
        "dev",
        "run",
        "tmp",
        "var/tmp",
        "var/cache/apt",
        "var/cache/ldconfig",
        "var/lib/apt/lists",
    ):
        for path in (root / name).glob("*"):
            _remove(path)
    for name in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        (root / name).mkdir(parents=True, exist_ok=True)
    _write(root / "etc/machine-id", "")
    (root / "etc/machine-id").chmod(0o444)
    _fix_shadow(root / "etc/shadow", epoch // _SECONDS_PER_DAY)


def _fix_shadow(shadow: Path, day: int) -> None:
    lines = []
    for line in shadow.read_text().splitlines():
        fields = line.split(":")
        fields[2] = str(day)
        lines.append(":".join(fields) + "\n")
    shadow.write_text("".join(lines))
    for path in (shadow, shadow.with_name("gshadow")):
        os.chown(path, 0, _SHADOW_GID)
        path.chmod(0o640)


def cover_users(root: Path) -> UserTable:
    """Write a sysusers.d file for users that packages made beyond the table; return those."""
    table = parse_sysusers((root / USERS_TABLE).read_text())
    found = read_passwd(
        (root / "etc/passwd").read_text().splitlines(),
        (root / "etc/group").read_text().splitlines(),
    )
    extra = found.without(table)
    if extra.users or extra.groups:
        head = (
            "# Users and groups that the packages of this image made, with the ids that they got.\n"
        )
        _write(root / _EXTRA_USERS, head + extra.sysusers())
    return extra


def newest_packaged_time(root: Path, before: float) -> int:
    """The newest time of a file that a package brought: what was made during the build is younger.

    Args:
        root: the tree.
        before: when the build began; seconds since the epoch.
    """
    newest = 0.0
    for entry in _walk(root / "usr"):
        changed = entry.stat(follow_symlinks=False).st_mtime
        if newest < changed < before:
            newest = changed
    return int(newest)


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                yield entry


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    path.write_text(text)
    path.chmod(0o644)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
