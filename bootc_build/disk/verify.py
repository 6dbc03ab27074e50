"""Build a disk twice, and say what differs first if anything does."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bootc_build.disk.build import DiskRequest, build_disk
from bootc_build.disk.deliver import WrittenDisk
from bootc_build.disk.worktree import work_tree
from bootc_build.inspection.disk_file import opened
from bootc_build.inspection.places import describe, first_difference
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.progress import Progress


class NotReproducibleError(UserError):
    """Two builds of the same disk gave different bytes."""

    def __init__(self, path: Path, offset: int, place: str) -> None:
        super().__init__(
            f"A second build of '{path}' is not the same: the first difference is at byte {offset}, "
            f"in {place}.",
            f"'{path}' was written and is whole. What changes from build to build has to leave the image.",
        )


def build_disk_twice(request: DiskRequest, progress: Progress) -> list[WrittenDisk]:
    """Make the disk files that were asked for, make them again, and compare every byte.

    Raises:
        NotReproducibleError: they differ; what was asked for is written nevertheless.
        UserError, UsageError: as `build_disk` does.
    """
    written = build_disk(replace(request, builds=2), progress)
    with work_tree(request.output) as again:
        progress.step("Building a second time")
        second = build_disk(
            replace(request, output=again / "second", manifest=False, layer_cache=False), progress
        )
        progress.step("Comparing the two builds")
        compare(written, second)
    return written


def compare(written: Sequence[WrittenDisk], second: Sequence[WrittenDisk]) -> None:
    """Require two builds to be the same.

    Raises:
        NotReproducibleError: names the first structure that differs.
    """
    for first, other in zip(written, second, strict=True):
        offset = first_difference(first.path, other.path)
        if offset is not None:
            raise NotReproducibleError(first.path, *_explain(first.path, other.path, offset))


def _explain(one: Path, other: Path, offset: int) -> tuple[int, str]:
    """Where the disks in two files differ first: the byte of the disk, and what lies there."""
    with ExitStack() as files:
        raw = [files.enter_context(opened(path)).raw for path in (one, other)]
        inside = first_difference(*raw)
        if inside is None:
            return offset, "the file's own structure; the disks in both files are the same"
        return inside, describe(raw[0], inside)
