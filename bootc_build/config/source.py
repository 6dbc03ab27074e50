"""Where a configuration was said, for what is found wrong with it later, when the image is known."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from bootc_build.config.record import Problem


@dataclass(frozen=True)
class ConfigurationSource:
    """A file that a `DiskConfiguration` comes from.

    Attributes:
        where: the file, for people.
        places: which of its keys each key of disk.yaml comes from, where they differ.
    """

    where: str = "the configuration"
    places: Mapping[str, str] = field(default_factory=dict)

    def key(self, path: str) -> str:
        """The file's own key for one of disk.yaml's: that of its longest known beginning."""
        beginnings = (path, *(f"{path[:at]}" for at in range(len(path) - 1, 0, -1)))
        known = next(
            (
                each
                for each in beginnings
                if each in self.places and path[len(each) :][:1] in ("", ".", "[")
            ),
            None,
        )
        if known is None:
            return path
        return self.places[known] + path.removeprefix(known)

    def found(self, problems: Iterable[Problem]) -> Iterator[tuple[str, Problem]]:
        """The problems, told by the file's own keys, each with the file."""
        for each in problems:
            yield self.where, Problem(self.key(each.path), each.fact, each.remedy)
