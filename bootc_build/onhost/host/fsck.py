"""Check a system's consistency: refs, images, objects, boot entries, deployments.

Nothing is changed unless asked for. Then what cannot be needed is removed (refs that lead nowhere, directories of
deployments that no boot entry leads to), damaged objects are fetched again, and kernels in /boot are copied again from
their deployments. The boot entry of the running system is never touched.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import boot_entries
from bootc_build.onhost.host.status import tracked_image
from bootc_build.onhost.oci.refnames import (
    BASE_IMAGE_PREFIX,
    IMAGE_PREFIX,
    LAYER_PREFIX,
    layer_ref,
)
from bootc_build.onhost.progress import Progress, Silent

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.sysroot import Sysroot
    from bootc_build.onhost.ostree.verify import DamagedObject

_PREFIXES: Final = (IMAGE_PREFIX, LAYER_PREFIX, BASE_IMAGE_PREFIX)
# Below a damaged directory more may be damaged, which is only seen when the directory is whole.
_ROUNDS: Final = 5


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        message: what, with names.
        repairable: `fsck` can mend it without risk.
        repaired: it did.
        harmless: it costs time or space, but nothing fails by it.
    """

    message: str
    repairable: bool = False
    repaired: bool = False
    harmless: bool = False

    @property
    def counts(self) -> bool:
        """Whether it is an error that is still there."""
        return not self.harmless and not self.repaired


@dataclass(frozen=True)
class Check:
    """One check with what it found."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no error is left."""
        return not any(each.counts for each in self.findings)

    def to_dict(self) -> dict[str, object]:
        """For ``--format json``."""
        found = [
            {
                "message": each.message,
                "severity": "warning" if each.harmless else "error",
                "repairable": each.repairable,
                "repaired": each.repaired,
            }
            for each in self.findings
        ]
        return {"name": self.name, "ok": self.ok, "findings": found}


def fsck(
    sysroot: "Sysroot", *, repair: bool = False, progress: Progress | None = None
) -> Iterator[Check]:
    """Run all checks, one after the other.

    Args:
        sysroot: what to check; with ``repair``, opened for writing and locked.
        repair: mend what can be mended without risk.
        progress: hears of what is fetched.
    """
    repairs: dict[str, Callable[[Sysroot], Iterable[str]]] = {
        "refs": _remove_dangling,
        "objects": lambda sysroot: _mend_objects(sysroot, progress or Silent()),
        "boot-entries": _mend_kernels,
        "deployments": _remove_strays,
    }
    checks: dict[str, Callable[[Sysroot], Iterable[Finding]]] = {
        "etc-resolvconf": _resolvconf,
        "refs": _refs,
        "images": _images,
        "layers": _layers,
        "objects": _objects,
        "boot-entries": _boot_entries,
        "deployments": _deployments,
    }
    for name, check in checks.items():
        findings = tuple(check(sysroot))
        if repair and any(each.repairable for each in findings):
            problems = tuple(repairs[name](sysroot))
            left = {each.message: each for each in check(sysroot)}
            mended = [
                replace(each, repaired=each.repairable and each.message not in left)
                for each in findings
            ]
            known = {each.message for each in findings}
            new = [each for message, each in left.items() if message not in known]
            findings = (*mended, *new, *map(Finding, problems))
        yield Check(name, findings)


def _resolvconf(sysroot: "Sysroot") -> Iterator[Finding]:
    """Upstream's check: buildah leaves an empty file in images, which the import has to drop."""
    for deployment in sysroot.deployments():
        file = sysroot.path / deployment.path / "usr/etc/resolv.conf"
        if file.is_file() and not file.is_symlink() and file.stat().st_size == 0:
            yield Finding(f"Found usr/etc/resolv.conf as zero-sized file in {deployment.path}")


def _dangling(sysroot: "Sysroot") -> list[tuple[str, str]]:
    repo = sysroot.repo
    refs = [item for prefix in _PREFIXES for item in sorted(repo.refs(prefix).items())]
    return [(ref, commit) for ref, commit in refs if not repo.has_commit(commit)]


def _refs(sysroot: "Sysroot") -> Iterator[Finding]:
    for ref, commit in _dangling(sysroot):
        yield Finding(f"The ref {ref} names commit {commit}, which is missing", repairable=True)


def _remove_dangling(sysroot: "Sysroot") -> Iterable[str]:
    for ref, _commit in _dangling(sysroot):
        sysroot.repo.set_ref(ref, None)
    return ()


def _images(sysroot: "Sysroot") -> Iterator[Finding]:
    from bootc_build.onhost.ostree.metadata import load_image_metadata  # noqa: PLC0415

    for deployment in sysroot.deployments():
        where = f"deployment {deployment.checksum[:12]}.{deployment.serial}"
        if tracked_image(deployment) is None:
            continue
        try:
            metadata = load_image_metadata(sysroot.repo, deployment.checksum)
        except UserError as error:
            yield Finding(f"The image of {where} is unknown: {error.fact}")
            continue
        if metadata is None:
            yield Finding(f"The commit of {where} says nothing of the image that it follows")


def _layers(sysroot: "Sysroot") -> Iterator[Finding]:
    from bootc_build.onhost.ostree.metadata import load_image_metadata  # noqa: PLC0415

    repo = sysroot.repo
    known = repo.refs(LAYER_PREFIX)
    for commit in dict.fromkeys(each.checksum for each in sysroot.deployments()):
        try:
            metadata = load_image_metadata(repo, commit)
        except UserError:
            continue  # `images` says so
        for layer in metadata.manifest.layers if metadata else ():
            if layer_ref(layer.digest) not in known:
                yield Finding(
                    f"Layer {layer.digest} of {commit[:12]} is not stored: an upgrade fetches it again",
                    harmless=True,
                )


def _damaged(sysroot: "Sysroot") -> "Iterator[DamagedObject]":
    from bootc_build.onhost.ostree.verify import damaged_objects  # noqa: PLC0415

    repo = sysroot.repo
    dangling = {commit for _ref, commit in _dangling(sysroot)}
    commits = [each.checksum for each in sysroot.deployments()]
    commits += [commit for prefix in _PREFIXES for commit in repo.refs(prefix).values()]
    wanted = [each for each in dict.fromkeys(commits) if each not in dangling]
    return damaged_objects(repo, wanted)


def _objects(sysroot: "Sysroot") -> Iterator[Finding]:
    for each in _damaged(sysroot):
        what = "is missing" if each.missing else "is corrupt"
        where = f"{each.path} of {each.commit[:12]}"
        yield Finding(f"Object {each.name} {what}: {where}", repairable=True)


def _mend_objects(sysroot: "Sysroot", progress: Progress) -> list[str]:
    from bootc_build.onhost.host.repair import mend_objects  # noqa: PLC0415 - seldom needed

    unfetched: tuple[str, ...] = ()
    unreplaced: list[str] = []
    tried: set[str] = set()
    names = {each.name for each in _damaged(sysroot)}
    for _round in range(_ROUNDS):
        if not names - tried:
            break
        mended = mend_objects(sysroot, names, progress)
        tried |= names
        unfetched = mended.unfetched
        unreplaced += mended.unreplaced
        names = {each.name for each in _damaged(sysroot)}
    # What two images share may have come with the other one.
    return [*(unfetched if names else ()), *unreplaced]


def _boot_entries(sysroot: "Sysroot") -> Iterator[Finding]:
    boot = sysroot.path / "boot"
    entries = boot_entries.read_entries(sysroot.path)
    if not entries:
        yield Finding(f"There is no boot entry in {boot}/loader/entries")
    damaged = {each.folder for each in boot_entries.damaged_kernels(sysroot.path)}
    for entry in entries:
        for key in ("linux", "initrd"):
            name = entry.boot_file(key)
            if not name or not (boot / name).is_file():
                yield Finding(
                    f"{entry.file.name} names a file that is not there: {key} /{name}",
                    repairable=bool(name) and (boot / name).parent in damaged,
                )
        if entry.deployment is None:
            yield Finding(f"{entry.file.name} leads to no deployment: ostree={entry.argument}")
    for folder in sorted(damaged):
        yield Finding(
            f"Kernel and initramfs in {folder} are not those of their deployment", repairable=True
        )


def _mend_kernels(sysroot: "Sysroot") -> Iterator[str]:
    for each in boot_entries.damaged_kernels(sysroot.path):
        try:
            boot_entries.mend_kernel(each)
        except UserError as error:
            yield error.fact


def remove_dangling_entries(root: Path, command_line: str) -> Check | None:
    """Remove boot entries that lead to no deployment, which keep libostree from reading any.

    Args:
        root: of the disk.
        command_line: of the running kernel, whose entry stays.

    Returns:
        What was removed; None for nothing.

    Raises:
        UserError: /boot cannot be written.
    """
    gone = boot_entries.drop_dangling(root, command_line)
    return Check("sysroot", tuple(_removed(each) for each in gone)) if gone else None


def _removed(entry: boot_entries.BootEntry) -> Finding:
    message = f"{entry.file.name} leads to no deployment: ostree={entry.argument}"
    return Finding(message, repairable=True, repaired=True)


def _strays(sysroot: "Sysroot") -> list[Path]:
    known = {sysroot.path / each.path for each in sysroot.deployments()}
    roots = sorted((sysroot.path / "ostree/deploy").glob("*/deploy/*.[0-9]*"))
    return [each for each in roots if each.is_dir() and each not in known]


def _deployments(sysroot: "Sysroot") -> Iterator[Finding]:
    for stray in _strays(sysroot):
        yield Finding(
            f"{stray} is no deployment that can be booted: half made, or left over", repairable=True
        )
    for each in sysroot.deployments():
        root = sysroot.path / each.path
        if not (root / "usr").is_dir():
            yield Finding(f"{root} has no /usr")
        if not root.with_name(f"{root.name}.origin").is_file():
            yield Finding(f"{root} has no origin file")


def _remove_strays(sysroot: "Sysroot") -> Iterable[str]:
    sysroot.cleanup()
    return ()
