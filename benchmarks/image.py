"""``bootc-build image`` against bare ``buildah build`` of the same Containerfile, which installs packages."""

from collections.abc import Iterator

from benchmarks.__main__ import Settings
from benchmarks.measure import Ratio, measure, paired

CONTAINERFILE = """\
FROM {image}
RUN apt-get update && apt-get install -y --no-install-recommends nginx-light jq tree && apt-get clean
"""


def measure_all(settings: Settings) -> Iterator[Ratio]:
    """One ratio: an uncached build, wall time."""
    log = settings.scratch / "log"
    context = settings.scratch / "context"
    context.mkdir()
    (context / "Containerfile").write_text(CONTAINERFILE.format(image=settings.image))
    tags = ("localhost/bootc-bench/a:1", "localhost/bootc-bench/b:1")
    ours = ["bootc-build", "image", "--no-cache", "-t", tags[0], str(context)]
    bare = ["buildah", "build", "--isolation", "chroot", "--no-cache", "--layers", "-t", tags[1]]
    try:
        yield paired(
            "image / buildah build",
            1.1,
            lambda: measure(ours, log).wall,
            lambda: measure([*bare, str(context)], log).wall,
            rounds=settings.rounds,
        )
    finally:
        measure(["buildah", "rmi", "--force", *tags], log)
