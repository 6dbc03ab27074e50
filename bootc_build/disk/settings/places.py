"""Where files and folders of a configuration come to lie: what is wrong with a place, and whose home it is in."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.record import Problem
from bootc_build.disk.settings.accounts import Home
from bootc_build.disk.settings.deployment import Deployment


def home_of(path: str, homes: Iterable[Home]) -> Home | None:
    """The innermost home that a path, with its links followed, is or lies in."""
    around = [home for home in homes if path == home.path or path.startswith(f"{home.path}/")]
    return max(around, key=lambda home: len(home.path), default=None)


# What is wrong, and the remedy.
_Wrong = tuple[str, str]


class _Places:
    """What is where once everything before was made."""

    def __init__(self, image: Deployment) -> None:
        self.image = image
        self._folders: set[str] = set()
        self._files: dict[str, str] = {}

    def is_folder(self, path: PurePosixPath) -> bool:
        return str(path) in self._folders or self.image.kind(str(path)) == "folder"

    def is_file(self, path: PurePosixPath) -> bool:
        if str(path) in self._folders:
            return False
        return str(path) in self._files or self.image.kind(str(path)) == "file"

    def add_folder(self, path: PurePosixPath) -> None:
        self._folders.update(str(each) for each in (path, *path.parents))

    def add_file(self, path: PurePosixPath, key: str) -> None:
        self.add_folder(path.parent)
        self._files[str(path)] = key

    def wrong_folder(self, path: PurePosixPath, *, parents: bool) -> _Wrong | None:
        if wrong := self._wrong(path):
            return wrong
        if self.is_file(path):
            return "which is no folder in the image", "Choose another path"
        if not parents and not self.is_folder(path.parent):
            return "and the folder above is not there", "Say 'parents: true', or name it before"
        return None

    def wrong_file(self, path: PurePosixPath) -> _Wrong | None:
        if wrong := self._wrong(path):
            return wrong
        if self.is_folder(path):
            return "which is a folder", "Choose another path"
        if before := self._files.get(str(path)):
            return f"which leads to the place of '{before}'", "Leave one of them out"
        return None

    def _wrong(self, path: PurePosixPath) -> _Wrong | None:
        """Why nothing can be put at a path whose links were followed."""
        if path.parts[1:2] not in (("etc",), ("var",)):
            return (
                f"and {path} belongs to the image",
                "Put it into the image with the Containerfile, or choose a path below /etc or /var",
            )
        for above in path.parents:
            if self.is_file(above):
                return f"and {above} is no folder", "Choose another path"
        return None


def place_problems(
    image: Deployment, wanted: DiskConfiguration, homes: Sequence[str], ours: Sequence[str]
) -> Iterator[Problem]:
    """What is wrong with the places of directories and files, in the order in which they are made.

    Args:
        image: what is there.
        wanted: the configuration.
        homes: paths of homes, links followed; they are made for what is put into them.
        ours: files that other keys of the configuration make.
    """
    places = _Places(image)
    for path in ours:
        places.add_folder(PurePosixPath(image.resolve(path)).parent)
    for number, folder in enumerate(wanted.directories):
        place = PurePosixPath(image.resolve(folder.path))
        for home in homes:
            if str(place).startswith(f"{home}/"):
                places.add_folder(PurePosixPath(home))
        if wrong := places.wrong_folder(place, parents=folder.parents):
            yield Problem(f"directories[{number}].path", f"is {folder.path}, {wrong[0]}", wrong[1])
        places.add_folder(place)
    for number, file in enumerate(wanted.files):
        key, place = f"files[{number}].path", PurePosixPath(image.resolve(file.path))
        if wrong := places.wrong_file(place):
            yield Problem(key, f"is {file.path}, {wrong[0]}", wrong[1])
        places.add_file(place, key)
