"""The words of linting: a lint, its level, what it finds."""

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bootc_build.onhost.lint.root import Root


class Level(enum.Enum):
    """What a finding means."""

    FATAL = "fatal"  # it would not install, boot or upgrade
    WARNING = "warning"  # it would surprise later


class RootKind(enum.Enum):
    """Where the root that is looked at comes from."""

    RUNNING = "running"  # "/" of this process, in a container build or on a host
    ALTERNATIVE = "alternative"  # some other directory: a mounted image


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        lint: name of the lint that found it.
        level: fatal or warning.
        paths: absolute paths in the image, sorted, printable; empty when the whole image is meant.
        message: what is wrong, one sentence.
        remedy: what to write into the Containerfile, one sentence.
    """

    lint: str
    level: Level
    paths: tuple[str, ...]
    message: str
    remedy: str


@dataclass(frozen=True)
class Problem:
    """What a check yields; the lint's name and level make a ``Finding`` of it."""

    message: str
    remedy: str
    paths: Sequence[str] = ()


Check = Callable[[Root], Iterator[Problem]]


@dataclass(frozen=True)
class Lint:
    """One rule.

    Attributes:
        name: stable, in lower case with hyphens; what ``--skip`` takes.
        level: of all its findings.
        description: one sentence on why it matters.
        check: yields what is wrong in a root.
        only: the kind of root that it makes sense for; None for any.
    """

    name: str
    level: Level
    description: str
    check: Check
    only: RootKind | None = None

    def run(self, root: Root) -> Iterator[Finding]:
        """Every finding in this root."""
        for problem in self.check(root):
            paths = tuple(printable(path) for path in sorted(set(problem.paths)))
            yield Finding(self.name, self.level, paths, problem.message, problem.remedy)


def printable(path: str) -> str:
    r"""The path with bytes that are not UTF-8 as ``\xff``, and control characters escaped."""
    text = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
