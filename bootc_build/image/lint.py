"""Lint images in local storage, and say which Containerfile step made what was found."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.lint.registry import Report, lint_root
from bootc_build.onhost.lint.render import finding_lines
from bootc_build.onhost.lint.root import Root
from bootc_build.tools.buildah import WorkingContainer, working_container
from bootc_build.tools.podman import LocalImage, image_store

# How buildah writes down what it ran: an instruction that is not RUN, or a shell command.
_NO_OPERATION = re.compile(r"^/bin/sh -c #\(nop\) ")
_BUILD_ARGUMENTS = re.compile(r"^\|\d+ (?:\S+=\S* )*(?=/bin/sh )")
_SHELL = re.compile(r"^/bin/sh -c ")
_STEP_LENGTH = 100


@dataclass(frozen=True)
class LintedImage:
    """An image with what the lints found in it.

    Attributes:
        image: name or id of the image.
        report: the findings.
    """

    image: str
    report: Report

    @cached_property
    def _facts(self) -> LocalImage:
        with image_store() as store:
            return store.get(self.image)

    def step_of(self, path: str) -> str | None:
        """The Containerfile step that made a path, as far as the image's history tells."""
        return step_that_made(self._facts, path)


class LintError(UserError):
    """An image has findings that keep it from being used."""

    def __init__(self, linted: LintedImage, kept: str, *, warnings_too: bool) -> None:
        fatal = linted.report.findings if warnings_too else linted.report.fatal
        lines = [
            line
            for found in fatal
            for line in finding_lines(found, all_paths=False, step_of=linted.step_of)
        ]
        count = f"{len(fatal)} lint finding" + ("s" if len(fatal) > 1 else "")
        meaning = "(warnings count)" if warnings_too else "would keep this image from being used"
        super().__init__(f"{count} {meaning}:\n" + "\n".join(lines), kept)
        self.linted = linted


def lint_image(image: str, skip: Collection[str] = ()) -> LintedImage:
    """Lint an image in local storage.

    Raises:
        UsageError: ``skip`` has an unknown name.
        UserError: the image is not in local storage.
    """
    with mounted_image(image) as (_, root):
        return LintedImage(image, lint_root(root, skip=skip))


@contextmanager
def mounted_image(image: str) -> Iterator[tuple[WorkingContainer, Root]]:
    """A working container of an image, and its root; both are gone after the block."""
    with working_container(image) as container:
        yield container, Root(container.mount())


def step_that_made(image: LocalImage, path: str) -> str | None:
    """The history line of the layer that has ``path``, in the Containerfile's words.

    A directory is traced to the lowest layer that has it, anything else to the highest. None where
    storage keeps no folder per layer, or history and layers do not go together.
    """
    steps = [step for step in image.history if not step.empty_layer]
    folders = image.layer_folders
    if len(steps) != len(image.layers) or len(folders) != len(steps):
        return None
    having = [
        index
        for index, folder in enumerate(folders)
        if (found := Path(folder, path.lstrip("/"))).exists() or found.is_symlink()
    ]
    if not having:
        return None
    lowest = Path(folders[having[-1]], path.lstrip("/")).is_dir()
    return instruction(steps[having[0] if lowest else having[-1]].created_by) or None


def instruction(created_by: str) -> str:
    """A history line as the Containerfile's instruction: "RUN apt-get …", "COPY …"; cut when long."""
    text = _BUILD_ARGUMENTS.sub("", created_by.strip())
    no_operation = _NO_OPERATION.match(text)
    text = text[no_operation.end() :] if no_operation else _SHELL.sub("RUN ", text)
    text = " ".join(text.split())
    return text if len(text) <= _STEP_LENGTH else text[: _STEP_LENGTH - 1] + "…"
