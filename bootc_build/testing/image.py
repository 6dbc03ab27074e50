"""The images that a test boots: named once at the top of its file, built when the first test needs them.

An image that is built here gets a name of its own in local storage, `localhost/bootc-build-testing/KEY:ID`: KEY
is a digest of where it comes from (Containerfile, context, arguments), ID begins the image's id. What is built
is buildah's to decide: its layer cache goes by content. One process at a time builds a KEY (an exclusive lock on
`images/KEY.lock` in the cache folder), so pytest-xdist's workers get one image; of a KEY the newest few stay.
"""

import fcntl
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bootc_build.onhost.errors import UsageError

_NAMES = "localhost/bootc-build-testing"
_KEPT = 3
_DIGITS = 12


class Image:
    """An image of local storage, under test; nothing is built or looked up before it is needed.

    It is compared by content: `vm.bootc.booted.image == image` says whether exactly this image is deployed,
    whatever it is called there.

    Args:
        name: its name or id; or a function that makes it and returns its name, called once.
    """

    def __init__(self, name: str | Callable[[], str]) -> None:
        self._make = name if callable(name) else lambda: name
        self._label = repr(name) if isinstance(name, str) else getattr(name, "__name__", "…")
        self._name: str | None = None

    @classmethod
    def build(
        cls,
        containerfile: str | Path = "Containerfile",
        *,
        build_args: Mapping[str, "str | Image"] | None = None,
        context: str | Path | None = None,
    ) -> "Image":
        """An image that a Containerfile describes, built as `bootc-build image` does, lints included.

        Relative paths start at the folder of the file that calls this.

        Args:
            containerfile: its path.
            build_args: values for its ARGs; an Image stands for its name, and is made first.
            context: folder that it copies from; by default its own.

        Raises:
            UserError: (when the image is first needed) the build failed, with what the failing step said.
        """
        here = Path(sys._getframe(1).f_globals.get("__file__", "x")).absolute().parent  # noqa: SLF001 - the documented way
        source = here / containerfile
        place = here / context if context is not None else source.parent
        arguments = dict(build_args or {})
        image = cls(lambda: _built(source, place, arguments))
        shown = [f"{key}={value}" for key, value in arguments.items() if isinstance(value, str)]
        image._label = ", ".join((source.name, *shown))
        return image

    @property
    def name(self) -> str:
        """Its name in local storage.

        Raises:
            UserError: it could not be made.
        """
        if self._name is None:
            self._name = self._make()
        return self._name

    @property
    def id(self) -> str:
        """The digest of its configuration: 64 hex digits.

        Raises:
            UserError: it could not be made, or is not in local storage.
        """
        from bootc_build.tools.buildah import image_id  # noqa: PLC0415 - pytest starts without it

        return image_id(self.name)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Image):
            return self is other or self.id == other.id
        # What a guest tracks is text that knows what is deployed (bootc_build.vm.guest_bootc).
        deployed = getattr(other, "config_digest", None)
        if deployed is None:
            return NotImplemented
        return bool(deployed == f"sha256:{self.id}")

    def __hash__(self) -> int:
        # Equal images hash alike, and to know which are equal they would have to be built.
        return hash(Image)

    def __repr__(self) -> str:
        return f"Image({self._label})"


def _built(containerfile: Path, context: Path, arguments: Mapping[str, str | Image]) -> str:
    from bootc_build.image.derived import LABELS, BuildRequest, build_image  # noqa: PLC0415
    from bootc_build.onhost.progress import Silent  # noqa: PLC0415
    from bootc_build.tools.buildah import tag_image  # noqa: PLC0415

    for path, what in ((containerfile, "Containerfile"), (context, "context")):
        if not path.exists():
            raise UsageError(
                f"The {what} '{path}' does not exist.",
                "Relative paths in Image.build start at the folder of the test's file.",
            )
    values = {key: one if isinstance(one, str) else one.name for key, one in arguments.items()}
    # An image among the arguments may change its name with its content, but not what it is here.
    stable = sorted((key, str(one)) for key, one in arguments.items())
    facts = json.dumps([str(containerfile), str(context), stable])
    key = hashlib.sha256(facts.encode()).hexdigest()[:_DIGITS]
    request = BuildRequest(
        tags=(),
        containerfiles=(str(containerfile),),
        context=str(context),
        flags=(
            "--layers",
            # Here, where buildah caches them: added afterwards, each session would have another image.
            *(flag for pair in LABELS.items() for flag in ("--label", "=".join(pair))),
            *(flag for pair in values.items() for flag in ("--build-arg", "=".join(pair))),
        ),
    )
    with _locked(key):
        image = build_image(request, Silent()).image
        name = f"{_NAMES}/{key}:{image[:_DIGITS]}"
        tag_image(image, [name])
        _forget_old(f"{_NAMES}/{key}", name)
    return name


def _forget_old(repository: str, used: str) -> None:
    from bootc_build.tools.buildah import image_names, remove_image  # noqa: PLC0415

    others = [name for name in image_names(repository) if name != used]
    for name in others[_KEPT - 1 :]:
        remove_image(name)


@contextmanager
def _locked(key: str) -> Iterator[None]:
    from bootc_build.tools.cache import cache_folder  # noqa: PLC0415

    folder = cache_folder() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
