"""Look, before an image is queued, for what would go wrong at shutdown or at the next boot."""

import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bootc_build.onhost import pull
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import plain
from bootc_build.onhost.host.config_diff import read_tree
from bootc_build.onhost.host.etc_merge import Entry, Kind, merged
from bootc_build.onhost.host.verdict import (
    ROOT_MARGIN,
    Concern,
    MovedId,
    Verdict,
    boot_space,
    kernel_arguments,
    merge_of_etc,
    moved_ids,
    ownership,
    parse_ids,
    root_space,
)
from bootc_build.onhost.oci.reference import ImageReference

if TYPE_CHECKING:
    from bootc_build.onhost.host.booted import BootedSystem
    from bootc_build.onhost.ostree.deployment import Deployment
    from bootc_build.onhost.ostree.listing import Listed
    from bootc_build.onhost.ostree.sysroot import Sysroot

_BEFORE: Final = ("boot-space", "root-space", "boot-entries")
_AFTER: Final = ("kernel-arguments", "etc-merge", "users-and-groups")
_CHECKS: Final = (*_BEFORE, *_AFTER)
_BOOT_LINK: Final = re.compile(r"(?:^|\s)ostree=/ostree/boot\.[01]/([^/\s]+)/([^/\s]+)/[0-9]+")
_KERNEL_FILES: Final = ("vmlinuz", "initramfs.img", "devicetree")
_REPORT: Final = Path("/run/bootc/preflight.json")


def examine(
    system: "BootedSystem", commit: str, arguments: Sequence[str], current: Sequence[str]
) -> Verdict:
    """Check whether a commit of the repository can be queued.

    Args:
        system: the running system.
        commit: what is to be queued.
        arguments: its kernel arguments.
        current: those that it would follow.

    Raises:
        UserError: something cannot be read.
    """
    sysroot = system.sysroot
    booted = system.slots.booted
    boot = sysroot.path / "boot"
    concerns = [
        *_space(sysroot, booted, commit, boot),
        *_boot_entries(sysroot, boot),
        *kernel_arguments(current, arguments),
        *_etc(sysroot, booted, commit),
    ]
    return Verdict(_CHECKS, tuple(concerns))


def foresee(system: "BootedSystem", image: ImageReference, remote: pull.RemoteImage) -> Verdict:
    """Check what can be told of an image before any of its layers is fetched.

    Args:
        system: the running system.
        image: names the image.
        remote: what its registry says of it.
    """
    sysroot = system.sysroot
    booted = system.slots.booted
    boot = sysroot.path / "boot"
    concerns = [
        *_refusals("image", lambda: pull.check_bootable(image, remote.config)),
        *_kernel_like(sysroot, booted, boot),
        *_root_space(sysroot, booted),
        *_refusals(
            "root-space",
            lambda: pull.check_room(
                sysroot.repo, image, remote, spare=deployment_bytes(sysroot, booted)
            ),
        ),
        *_boot_entries(sysroot, boot),
    ]
    return Verdict(("image", *_BEFORE), tuple(concerns), _AFTER)


def _refusals(check: str, attempt: Callable[[], None]) -> Iterator[Concern]:
    try:
        attempt()
    except UserError as error:
        yield Concern(check, "error", error.fact, error.remedy)


def _kernel_like(sysroot: "Sysroot", booted: "Deployment", boot: Path) -> Iterator[Concern]:
    """Whether there is room for one more kernel like the present one: the new one may be the same, or larger."""
    free = os.statvfs(boot)
    needed = sum(each.size for each in _kernel(sysroot, booted.checksum))
    for each in boot_space(needed, free.f_bavail * free.f_frsize, 0):
        text = each.message.replace(
            "the kernel of the image", "another kernel like the present one"
        )
        yield replace(each, severity="warning", message=text)


def report(verdict: Verdict, digest: str, path: Path = _REPORT) -> None:
    """Leave the verdict for programs, until the next boot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps({"imageDigest": digest, **verdict.to_dict()}, indent=2) + "\n")
    new.replace(path)


def _space(sysroot: "Sysroot", booted: "Deployment", commit: str, boot: Path) -> Iterator[Concern]:
    free = os.statvfs(boot)
    kept = [each for each in sysroot.deployments() if not each.staged]
    staying = [each for each in kept if each.booted or each.pinned]
    new = _kernel(sysroot, commit)
    known = [_kernel(sysroot, each.checksum) for each in staying]
    same = any({one.checksum for one in new} == {one.checksum for one in each} for each in known)
    needed = 0 if same else sum(each.size for each in new)
    going = {_kernel_folder(boot, each) for each in kept} - {
        _kernel_folder(boot, each) for each in staying
    }
    freeable = sum(_size(folder) for folder in going if folder is not None)
    yield from boot_space(needed, free.f_bavail * free.f_frsize, freeable)
    yield from _root_space(sysroot, booted)


def _root_space(sysroot: "Sysroot", booted: "Deployment") -> Iterator[Concern]:
    root = os.statvfs(sysroot.path)
    inodes = root.f_favail if root.f_files else None
    etc = _size(sysroot.path / booted.path / "etc")
    yield from root_space(root.f_bavail * root.f_frsize, inodes, etc)


def deployment_bytes(sysroot: "Sysroot", booted: "Deployment") -> int:
    """Bytes of the root file system that a deployment takes beside the objects of its image."""
    return _size(sysroot.path / booted.path / "etc") + ROOT_MARGIN


def _kernel(sysroot: "Sysroot", commit: str) -> list["Listed"]:
    from bootc_build.onhost.ostree.listing import CommitListing  # noqa: PLC0415 - libostree takes time

    try:
        files = list(CommitListing(sysroot.repo, commit).walk("usr/lib/modules", depth=2))
    except UserError:
        return []
    return [each for each in files if each.path.rpartition("/")[2] in _KERNEL_FILES]


def _kernel_folder(boot: Path, deployment: "Deployment") -> Path | None:
    found = _BOOT_LINK.search(deployment.options)
    return boot / f"ostree/{found[1]}-{found[2]}" if found else None


def _size(folder: Path) -> int:
    """Bytes of the regular files below a folder."""
    total = 0
    for root, _folders, files in os.walk(folder):
        for name in files:
            info = os.lstat(os.path.join(root, name))  # noqa: PTH118 - many paths
            total += info.st_size if stat.S_ISREG(info.st_mode) else 0
    return total


def _boot_entries(sysroot: "Sysroot", boot: Path) -> Iterator[Concern]:
    if not (boot / "loader").is_symlink():
        yield Concern(
            "boot-entries",
            "error",
            f"{boot}/loader is not the link that libostree swaps.",
            "Is /boot mounted? Look at: findmnt /boot",
        )
        return
    facts = plain.read_boot_facts(sysroot.repo_settings("sysroot"), boot, sysroot.path)
    try:
        plain.check_host(facts)
    except UserError as error:
        yield Concern("boot-entries", "error", error.fact, error.remedy)
    generator = os.environ.get("OSTREE_GRUB2_EXEC", "")
    if facts.uses_grub and generator and not os.access(generator, os.X_OK):
        yield Concern(
            "boot-entries",
            "error",
            f"{generator}, which writes the boot menu at shutdown, is not there.",
            "Go back to a system that has it: bootc rollback",
        )


def _etc(sysroot: "Sysroot", booted: "Deployment", commit: str) -> Iterator[Concern]:
    root = sysroot.path / booted.path
    image, present = read_tree(root / "usr/etc"), read_tree(root / "etc")
    new = _new_etc(sysroot, booted.checksum, image, commit)
    yield from merge_of_etc(merged(image, present, new))
    yield from _users(sysroot, root, commit)


def _new_etc(
    sysroot: "Sysroot", old_commit: str, old: dict[str, Entry], commit: str
) -> dict[str, Entry]:
    """The new image's /etc in the form of `read_tree`; only files that are others than before are read."""
    from bootc_build.onhost.ostree.listing import CommitListing  # noqa: PLC0415 - libostree takes time

    known: dict[str, Entry] = {}
    with suppress(UserError):  # a damaged one only costs time
        for each in CommitListing(sysroot.repo, old_commit).walk("usr/etc"):
            if each.checksum and each.path in old:
                known[each.checksum] = old[each.path]
    listing = CommitListing(sysroot.repo, commit)
    found: dict[str, Entry] = {}
    for each in listing.walk("usr/etc"):
        owner = f"{each.uid}:{each.gid}:{each.mode:o}"
        if not each.checksum:
            found[each.path] = Entry(Kind.DIRECTORY, owner)
        elif each.checksum in known:
            found[each.path] = known[each.checksum]
        elif stat.S_ISLNK(each.mode):
            found[each.path] = Entry(Kind.LINK, f"{owner}:{each.target}", each.target)
        else:
            found[each.path] = Entry(Kind.FILE, f"{owner}:{listing.digest(each.checksum)}")
    return found


def _users(sysroot: "Sysroot", root: Path, commit: str) -> Iterator[Concern]:
    from bootc_build.onhost.ostree.files import read_text_file  # noqa: PLC0415 - libostree takes time

    moved: list[MovedId] = []
    kept: list[str] = []
    for kind, name in (("user", "passwd"), ("group", "group")):
        present, pristine = root / "etc" / name, root / "usr/etc" / name
        text = read_text_file(sysroot.repo, commit, f"usr/etc/{name}")
        if text is None or not present.is_file():
            continue
        if not pristine.is_file() or present.read_bytes() != pristine.read_bytes():
            kept.append(kind)
        here = parse_ids(present.read_text(errors="replace"))
        moved += moved_ids("user" if kind == "user" else "group", here, parse_ids(text))
    if moved:
        places = (root / "etc", sysroot.path / f"ostree/deploy/{root.parent.parent.name}/var")
        yield from ownership(_files_of(moved, places), kept=kept)


def _files_of(moved: Iterable[MovedId], places: Iterable[Path]) -> dict[MovedId, str]:
    """A path of each who has one; the search ends when all have."""
    wanted = {(each.kind, each.old): each for each in moved}
    found: dict[MovedId, str] = {}
    for place in places:
        for folder, _folders, files in os.walk(place):
            for path in (folder, *(os.path.join(folder, name) for name in files)):  # noqa: PTH118
                info = os.lstat(path)
                for key in (("user", info.st_uid), ("group", info.st_gid)):
                    owner = wanted.pop(key, None)
                    if owner is not None:
                        found[owner] = f"/{place.name}{path.removeprefix(str(place))}"
            if not wanted:
                return found
    return found
