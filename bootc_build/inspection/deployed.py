"""What ostree deployed to a disk: boot entries and deployments, read from their files.

Where they lie: :mod:`bootc_build.onhost.ostree.sysroot_files`.
"""

import configparser
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from bootc_build.inspection.records import BootEntry, Deployment
from bootc_build.inspection.system import read_contents
from bootc_build.inspection.trees import FileTree, Subtree, read_text
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.kargs import split_command_line
from bootc_build.onhost.ostree.gvariant import decode
from bootc_build.onhost.ostree.metadata import META_MANIFEST_DIGEST, load_image_metadata
from bootc_build.onhost.ostree.sysroot_files import COMMIT_TYPE

_DEPLOYMENTS = "/ostree/deploy"
_NAME = re.compile(r"([0-9a-f]{64})\.([0-9]+)")
_BOOT_LINK = re.compile(r"/ostree/boot\.[01]/([^/]+)/[^/]+/[0-9]+")
_LINK = "ostree="


@dataclass(frozen=True)
class _Commits:
    """Metadata of the commits in a tree's repository."""

    tree: FileTree

    def commit_metadata(self, commit: str) -> dict[str, object]:
        """Metadata that was written with a commit; empty where the commit cannot be read."""
        data = self.tree.read(f"/ostree/repo/objects/{commit[:2]}/{commit[2:]}.commit")
        try:
            return (
                {}
                if data is None
                else cast("tuple[dict[str, object]]", decode(COMMIT_TYPE, data))[0]
            )
        except ValueError:
            return {}

    def detached_metadata(self, _commit: str) -> dict[str, object]:
        """Empty: nothing asks for it here."""
        return {}


def boot_entries(boot: FileTree, root: FileTree | None) -> tuple[BootEntry, ...]:
    """The entries of the boot menu, in the order in which they boot.

    Args:
        boot: what is /boot at run time.
        root: the sysroot, to tell which deployment an entry boots.
    """
    found = [
        _entry(name, read_text(boot, f"/loader/entries/{name}") or "", root)
        for name in boot.names("/loader/entries")
        if name.endswith(".conf")
    ]
    return tuple(sorted(found, key=lambda entry: -_number(entry.version)))


def deployments(root: FileTree, order: Sequence[str]) -> tuple[Deployment, ...]:
    """The deployments, those of ``order`` (names) first."""
    found = {
        f"{stateroot}/{name}": (stateroot, name)
        for stateroot in root.names(_DEPLOYMENTS)
        for name in root.names(f"{_DEPLOYMENTS}/{stateroot}/deploy")
        if _NAME.fullmatch(name)
    }
    names = [*dict.fromkeys(name for name in order if name in found)]
    names += [name for name in found if name not in names]
    return tuple(_deployment(root, *found[name]) for name in names)


def _entry(name: str, text: str, root: FileTree | None) -> BootEntry:
    fields: Mapping[str, str] = {
        key: value.strip()
        for key, _, value in (line.partition(" ") for line in text.splitlines())
        if key and not key.startswith("#")
    }
    arguments = split_command_line(fields.get("options", ""))
    link = next((word.removeprefix(_LINK) for word in arguments if word.startswith(_LINK)), "")
    return BootEntry(
        file=name,
        title=fields.get("title", ""),
        version=fields.get("version", ""),
        kernel=fields.get("linux", ""),
        initrd=fields.get("initrd", ""),
        arguments=arguments,
        deployment=_linked(root, link) if root and link else "",
    )


def _linked(root: FileTree, link: str) -> str:
    """Which deployment a link below /ostree/boot.N means."""
    parts = _BOOT_LINK.fullmatch(link)
    if parts is None:
        return ""
    stateroot = parts[1]
    # boot.0 is itself a link, to boot.0.0 or boot.0.1; trees follow links on the way.
    target = root.readlink(link)
    if target is not None:
        return f"{stateroot}/{target.rstrip('/').rpartition('/')[2]}"
    there = [
        name for name in root.names(f"{_DEPLOYMENTS}/{stateroot}/deploy") if _NAME.fullmatch(name)
    ]
    return f"{stateroot}/{there[0]}" if len(there) == 1 else ""


def _deployment(root: FileTree, stateroot: str, name: str) -> Deployment:
    place = f"{_DEPLOYMENTS}/{stateroot}/deploy/{name}"
    origin = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        origin.read_string(read_text(root, f"{place}.origin") or "")
    except configparser.Error:
        origin = configparser.ConfigParser()
    digest, image_id, version = _made_from(root, name.partition(".")[0])
    return Deployment(
        name=f"{stateroot}/{name}",
        image=origin.get("origin", "container-image-reference", fallback=""),
        digest=digest,
        image_id=image_id,
        version=version,
        pinned=origin.get("libostree-transient", "pinned", fallback="") == "true",
        contents=read_contents(Subtree(root, place)),
    )


def _made_from(root: FileTree, commit: str) -> tuple[str, str, str]:
    """Digest, id and version of the image that a commit was made from; empty when it was made from none."""
    commits = _Commits(root)
    try:
        image = load_image_metadata(commits, commit)
    except UserError:  # malformed documents; the digest beside them may be whole
        return str(commits.commit_metadata(commit).get(META_MANIFEST_DIGEST, "")), "", ""
    if image is None:
        return "", "", ""
    image_id = image.manifest.config.digest.removeprefix("sha256:")
    return image.manifest_digest, image_id, image.version or ""


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
