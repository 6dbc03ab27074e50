"""Versions of an operating system that differ in a few small files: one more layer each, removed with the tests."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from bootc_build.tools.buildah import remove_image, working_container


@dataclass
class Variants:
    """Makes them; made by `variants`.

    Attributes:
        made: ids of what was made so far.
    """

    made: list[str] = field(default_factory=list)

    def add(self, parent: str, version: str, files: Mapping[str, str]) -> str:
        """An image of another version with files (paths without a leading slash) on top; its id.

        An empty content removes a file; a link is written as ``-> TARGET``.
        """
        with working_container(parent) as container:
            for path, content in files.items():
                file = container.mount() / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.unlink(missing_ok=True)
                if content.startswith("-> "):
                    file.symlink_to(content.removeprefix("-> "))
                elif content:
                    file.write_text(content)
                    file.chmod(0o644)
            container.configure(labels={"org.opencontainers.image.version": version})
            self.made.append(container.commit(None, timestamp=1))
        return self.made[-1]


@contextmanager
def variants() -> Iterator[Variants]:
    """A maker of variants, which are removed afterwards."""
    made = Variants()
    try:
        yield made
    finally:
        for image in reversed(made.made):
            remove_image(image)
