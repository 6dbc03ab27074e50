"""Read deployments and commits from their files, without libostree; nothing is ever changed here.

For `bootc status`, which has to be quick: importing PyGObject alone takes several times longer than
`ostree admin status`. What libostree itself reads, and from where:

- ``/boot/loader`` links to ``loader.N``; ``loader.N/entries/ostree-*.conf`` are the boot entries, the one of the
  highest ``version`` boots first. Each names its deployment as ``ostree=/ostree/boot.N/STATEROOT/BOOTCSUM/SERIAL``,
  a link to the deployment's directory, beside which lies ``NAME.origin``.
- The deployment that runs is the one whose directory is ``/``, or the one whose inode ``/run/ostree-booted`` notes
  (where the root is an overlay).
- ``/run/ostree/staged-deployment`` and ``/run/ostree/deployment-state`` tell of what lasts until the next boot.
- A commit is a GVariant file in the repository, its detached metadata another beside it.

The results are those that `bootc_build.onhost.ostree.sysroot` gets from libostree; where the files look otherwise
than expected, `UnknownLayoutError` says that libostree has to be asked.
"""

import os
import re
from typing import Final, cast

from bootc_build.onhost.ostree.deployment import Deployment, Overlay
from bootc_build.onhost.ostree.gvariant import decode
from bootc_build.onhost.record import replace

_BOOT_LINK: Final = re.compile(
    r"(?:^|\s)ostree=(/ostree/boot\.[01]/([^/\s]+)/[^/\s]+/[0-9]+)(?:\s|$)"
)
_DEPLOYMENT: Final = re.compile(r"([0-9a-f]{64})\.([0-9]+)")
_ENTRY: Final = re.compile(r"ostree-.*\.conf")
_LOADER: Final = re.compile(r"loader\.([01])")
_PINNED: Final = ("libostree-transient", "pinned")
_UNLOCKED: Final = ("origin", "unlocked")
COMMIT_TYPE: Final = "(a{sv}aya(say)sstayay)"
_ATTEMPTS: Final = 3
# libostree reads no deployment at all then.
DANGLING_REMEDY: Final = (
    "Remove boot entries that lead to no deployment: bootc internals fsck --repair"
)
Metadata = dict[str, object]


class UnknownLayoutError(Exception):
    """The files are not laid out as this module knows it; libostree may know more."""


class SysrootFiles:
    """A sysroot, by its files.

    Args:
        root: the sysroot as it is mounted: ``/`` on the running system.
        run: where the state of this boot is kept.
    """

    def __init__(self, root: str = "/", run: str = "/run") -> None:
        self._root = root
        self._run = run

    def deployments(self) -> tuple[Deployment, ...]:
        """All deployments in boot order, a staged one first.

        Raises:
            UnknownLayoutError: libostree has to be asked.
        """
        problem: Exception | None = None
        for _ in range(_ATTEMPTS):  # a writer may swap the boot entries while they are read
            try:
                return self._deployments()
            except (OSError, ValueError, KeyError) as error:
                problem = error
        raise UnknownLayoutError(str(problem)) from problem

    def deployments_left(self) -> tuple[tuple[Deployment, ...], tuple[str, ...]]:
        """The deployments that are whole, where libostree refuses all for the sake of one; and the other boot entries.

        Raises:
            UnknownLayoutError: nothing can be told.
        """
        lost: list[str] = []
        try:
            found = self._deployments(lost)
        except (OSError, ValueError, KeyError) as error:
            raise UnknownLayoutError(str(error)) from error
        return found, tuple(lost)

    def commit_metadata(self, commit: str) -> Metadata:
        """Metadata that was written with a commit; empty where the commit cannot be read."""
        try:
            return cast("tuple[Metadata]", decode(COMMIT_TYPE, self.read_object(commit, "commit")))[
                0
            ]
        except (OSError, ValueError):
            return {}

    def detached_metadata(self, commit: str) -> Metadata:
        """Metadata that was laid beside a commit later; empty when there is none."""
        try:
            return cast("Metadata", decode("a{sv}", self.read_object(commit, "commitmeta")))
        except (OSError, ValueError):
            return {}

    def read_object(self, checksum: str, kind: str) -> bytes:
        """A metadata object as it lies in the repository; ``kind`` is the end of its name.

        Raises:
            OSError: it is not there.
        """
        return _read(self._path(f"ostree/repo/objects/{checksum[:2]}/{checksum[2:]}.{kind}"))

    def _path(self, relative: str) -> str:
        return os.path.join(self._root, relative)

    def _deployments(self, lost: list[str] | None = None) -> tuple[Deployment, ...]:
        """``lost`` takes the links of the boot entries that lead nowhere, instead of an error."""
        target = os.readlink(self._path("boot/loader"))
        if not _LOADER.fullmatch(target):
            raise UnknownLayoutError(f"/boot/loader is a link to {target}")
        folder = self._path(f"boot/{target}/entries")
        names = [name for name in os.listdir(folder) if _ENTRY.fullmatch(name)]
        entries = [_boot_entry(_read_text(os.path.join(folder, name))) for name in names]
        entries.sort(key=lambda entry: -int(entry["version"]))
        running = self._running_inode()
        found: list[Deployment] = []
        for entry in entries:
            options = entry.get("options", "")
            try:
                found.append(self._real(options, running))
            except FileNotFoundError:
                if lost is None:
                    raise
                lost.append(options)
        if any(each.booted for each in found):
            found = [*self._staged(), *found]
        return tuple(replace(each, index=index) for index, each in enumerate(found))

    def _real(self, options: str, running: tuple[int, int]) -> Deployment:
        link = _BOOT_LINK.search(options)
        if link is None:
            raise UnknownLayoutError(f"a boot entry without a deployment: {options}")
        name = os.path.basename(os.readlink(self._path(link[1].removeprefix("/"))))
        found = self._described(link[2], name, options)
        directory = os.stat(self._path(found.path))
        return replace(found, booted=(directory.st_dev, directory.st_ino) == running)

    def _staged(self) -> list[Deployment]:
        try:
            content = _read(os.path.join(self._run, "ostree/staged-deployment"))
        except FileNotFoundError:
            return []
        staged = cast("Metadata", decode("a{sv}", content))
        target = cast("dict[str, str]", staged["target"])
        options = " ".join(cast("list[str]", staged.get("kargs", [])))
        found = self._described(target["osname"], target["name"], options)
        # Before libostree 2023.8 a file said so.
        stamp = os.path.join(self._run, "ostree/staged-deployment-locked")
        locked = staged.get("locked") is True or os.path.exists(stamp)
        return [replace(found, staged=True, locked=locked)]

    def _described(self, stateroot: str, name: str, options: str) -> Deployment:
        parts = _DEPLOYMENT.fullmatch(name)
        if parts is None:
            raise UnknownLayoutError(f"a deployment with the name {name}")
        path = f"ostree/deploy/{stateroot}/deploy/{name}"
        try:
            # Damaged, it still does not keep anybody from seeing what there is.
            origin = _read(self._path(f"{path}.origin")).decode(errors="replace")
        except FileNotFoundError:
            origin = ""
        state = os.path.join(self._run, "ostree/deployment-state", name)
        overlay = Overlay.NONE
        if os.path.exists(f"{state}/unlocked-development"):
            overlay = Overlay.DEVELOPMENT
        elif os.path.exists(f"{state}/unlocked-transient"):
            overlay = Overlay.TRANSIENT
        elif _origin_value(origin, *_UNLOCKED) == Overlay.HOTFIX.value:
            overlay = Overlay.HOTFIX
        return Deployment(
            index=0,
            stateroot=stateroot,
            checksum=parts[1],
            serial=int(parts[2]),
            origin=origin,
            options=options,
            booted=False,
            staged=False,
            locked=False,
            pinned=_origin_value(origin, *_PINNED) == "true",
            overlay=overlay,
            path=path,
        )

    def _running_inode(self) -> tuple[int, int]:
        """Device and inode of the directory that the running system has as its root."""
        noted = _read(os.path.join(self._run, "ostree-booted"))
        if noted:
            backing = cast("Metadata", decode("a{sv}", noted)).get("backing-root-device-inode")
            if isinstance(backing, tuple):
                return cast("tuple[int, int]", backing)
        root = os.stat(self._root)
        return root.st_dev, root.st_ino


def _boot_entry(text: str) -> dict[str, str]:
    """Keys and values of a boot entry (Boot Loader Specification)."""
    lines = (line.split(None, 1) for line in text.split("\n") if not line.startswith("#"))
    return {parts[0]: parts[1] for parts in lines if len(parts) > 1}


def _origin_value(text: str, group: str, key: str) -> str | None:
    current = ""
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped.startswith("["):
            current = stripped[1:-1]
        elif current == group:
            name, equals, value = stripped.partition("=")
            if equals and name.strip() == key:
                return value.strip()
    return None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _read_text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
