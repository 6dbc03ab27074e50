"""An installed system in a folder: where a path of the running machine is, and files put there.

Nothing here follows a symbolic link out of the folder: links of the image are resolved as the booted machine
would, below the deployment, and /var is the stateroot's.
"""

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.image_tree import follow


@dataclass(frozen=True)
class MachineFile:
    """A file to be added.

    Attributes:
        path: absolute, as the machine sees it.
        content: its text.
        mode: permissions.
        uid: owner.
        gid: group.
        folder_mode: permissions of its folder, where that has to be made.
    """

    path: str
    content: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    folder_mode: int = 0o755


@dataclass(frozen=True)
class Deployment:
    """The first deployment of an installed tree.

    Attributes:
        root: the deployment, which becomes /.
        var: becomes /var.
    """

    root: Path
    var: Path

    @classmethod
    def find(cls, target: Path) -> "Deployment | None":
        """The deployment in a tree that `bootc install` laid down, in its only stateroot; None where there is none."""
        found = [each for each in target.glob("ostree/deploy/*/deploy/*.0") if each.is_dir()]
        return cls(found[0], found[0].parents[1] / "var") if found else None

    def resolve(self, path: str) -> str:
        """A path with the links on the way followed, as the machine does; the last part may be missing.

        Raises:
            UserError: links lead around for ever.
        """
        parent, last = posixpath.split(path)
        if last in ("", ".", ".."):
            parent, last = path, ""
        found = follow(self._link, parent)
        if found is None:
            raise UserError(f"The links of the image at {path} lead around for ever.")
        return posixpath.join("/", found, last) if last else f"/{found}"

    def _link(self, path: str) -> str | None:
        place = self._at(path.split("/"))
        return str(place.readlink()) if place.is_symlink() else None

    def place(self, path: str) -> Path:
        """Where in the tree a path of the machine is.

        Raises:
            UserError: it is the image's: neither in /etc nor in /var.
        """
        resolved = self.resolve(path)
        if not resolved.startswith(("/etc/", "/var/")):
            where = f" ({path} leads there)" if resolved != path else ""
            raise UserError(
                f"{resolved} belongs to the image{where}.",
                "Put it into the image with the Containerfile, or choose a path below /etc or /var.",
            )
        return self._at(resolved.strip("/").split("/"))

    def has(self, path: str) -> bool:
        """Whether the machine has something at a path, links followed."""
        # The last part too: what "/." is put behind is followed.
        resolved = self.resolve(f"{path}/.")
        return resolved == "/" or os.path.lexists(self._at(resolved.strip("/").split("/")))

    def kind(self, path: str) -> Literal["folder", "file", ""]:
        """What is at a path whose links were followed; a link at its end counts as a file."""
        place = self._at(path.strip("/").split("/")) if path != "/" else self.root
        if not os.path.lexists(place):
            return ""
        return "folder" if place.is_dir() and not place.is_symlink() else "file"

    def read(self, path: str) -> str:
        """A file's text; empty where there is none."""
        file = self._at(self.resolve(f"{path}/.").strip("/").split("/"))
        return file.read_text(errors="surrogateescape") if file.is_file() else ""

    def write(self, file: MachineFile) -> None:
        """Add or replace a file, by rename: what is there may be a hard link into the repository.

        Raises:
            UserError: the place is the image's, or a folder.
        """
        place = self.place(file.path)
        self.make_folders(place.parent, file.folder_mode)
        if place.is_dir() and not place.is_symlink():
            raise UserError(f"{file.path} is a folder in the image.", "Choose another path.")
        new = place.with_name(f".{place.name}.new")
        new.write_text(file.content, errors="surrogateescape")
        os.chown(new, file.uid, file.gid)
        new.chmod(file.mode)
        new.replace(place)

    def link(self, path: str, aim: str) -> None:
        """Add or replace a symbolic link."""
        place = self.place(path)
        new = place.with_name(f".{place.name}.new")
        new.symlink_to(aim)
        new.replace(place)

    def make_folder(self, path: str, *, mode: int, uid: int, gid: int, parents: bool) -> None:
        """Make a folder, or change who may enter the one that is there.

        Raises:
            UserError: the place is the image's or no folder; the folder above is missing.
        """
        place = self.place(path)
        if not parents and not place.parent.is_dir():
            raise UserError(
                f"The folder above {path} is not there.", "Say 'parents: true', or name it before."
            )
        self.make_folders(place.parent)
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise UserError(f"{path} is no folder in the image.", "Choose another path.")
        place.mkdir(exist_ok=True)
        os.chown(place, uid, gid)
        place.chmod(mode)

    def make_folders(self, place: Path, mode: int = 0o755) -> None:
        """Make a folder in the tree and those above it, whatever the umask."""
        if not place.is_dir():
            self.make_folders(place.parent)
            place.mkdir()
            place.chmod(mode)

    def _at(self, parts: Sequence[str]) -> Path:
        if parts and parts[0] == "var":
            return self.var.joinpath(*parts[1:])
        return self.root.joinpath(*parts)
