"""The images that the tests boot, kept in local storage under names that say what they were built from.

A base image takes a minute, so it is built only where what goes into its packages and configuration has changed;
where only the agent has, the base that is there gets the new agent in one more layer. Names end in digests of
the sources: two checkouts on one machine never take each other's images.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bootc_build.image.base import build_base
from bootc_build.image.base_plan import SUITES, Archive, plan_base
from bootc_build.image.base_tree import copy_image_root
from bootc_build.image.derived import BuildRequest, build_image
from bootc_build.onhost.progress import Silent
from bootc_build.testing import Image
from bootc_build.tools.apt_sources import find_archive, read_targets
from bootc_build.tools.buildah import (
    image_exists,
    image_id,
    remove_image,
    tag_image,
    working_container,
)
from bootc_build.tools.cache import cache_folder

PROJECT = Path(__file__).resolve().parent.parent
_PACKAGE = PROJECT / "bootc_build"
_NAMES = "localhost/bootc-build-test"
# The name by which tests that only look into a base image find the newest one.
_NEWEST = f"{_NAMES}/base:trixie"
_AGENT = "usr/lib/bootc/python/bootc_build"
_KEPT = 8
# Another checkout's tests may be about to use what they built last.
_KEPT_SECONDS = 3 * 3600


def base_image() -> str:
    """The name of the base image of this checkout's sources; or $BOOTC_BUILD_TEST_BASE as it is."""
    if chosen := os.environ.get("BOOTC_BUILD_TEST_BASE"):
        return chosen
    tree = _digest(_PACKAGE / "image", _PACKAGE / "data")
    foundation = f"{_NAMES}/foundation:{tree}"
    base = f"{_NAMES}/base:{tree}-{_digest(_PACKAGE / 'onhost', _PACKAGE / '__init__.py')}"
    with _lock():
        if not image_exists(base):
            if image_exists(foundation):
                _put_agent(foundation, base)
            else:
                archive = Archive(*find_archive(read_targets(), tuple(SUITES)))
                build_base(plan_base("trixie", "minimal", archive, tag=base), Silent())
                tag_image(base, [foundation])
        tag_image(base, [_NEWEST])
        _forget_old([foundation, base])
    return base


def newest_base_image() -> str:
    """The name of a base image of Debian's newest packages, with the programs of btrfs, XFS and LVM."""
    return _base_of("newest", "sid", packages=("btrfs-progs", "lvm2", "xfsprogs"))


def older_base_image() -> str:
    """The name of a base image of Debian 12, whose systemd takes no credentials for logins."""
    return _base_of("older", "bookworm")


def _base_of(kind: str, suite: str, packages: tuple[str, ...] = ()) -> str:
    tree = _digest(_PACKAGE / "image", _PACKAGE / "data", _PACKAGE / "onhost")
    name = f"{_NAMES}/{'-'.join([kind, *packages])}:{tree}"
    with _lock():
        if not image_exists(name):
            archive = Archive(*find_archive(read_targets(), tuple(SUITES)))
            build_base(plan_base(suite, "minimal", archive, packages=packages, tag=name), Silent())
        _forget_old([name])
    return name


BASE = Image(base_image)


def build(name: str, containerfile: Path, *, arguments: Iterable[tuple[str, str]]) -> str:
    """Build an image by a Containerfile of this project, once for its sources and arguments.

    Args:
        name: of the image, in the tests' own part of local storage.
        containerfile: its path; what it copies lies below `examples` or beside it.
        arguments: build arguments; `BASE` and others that name local images count with those images' ids.

    Returns:
        The image's whole name.
    """
    pairs = list(arguments)
    facts = [[key, image_id(value) if value.startswith(_NAMES) else value] for key, value in pairs]
    sources = _digest(containerfile.parent if containerfile.parent != PROJECT else containerfile)
    key = json.dumps([sources, _digest(PROJECT / "examples/hello"), facts])
    image = f"{_NAMES}/{name}:{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    with _lock():
        if not image_exists(image):
            flags = [flag for one in pairs for flag in ("--build-arg", "=".join(one))]
            request = BuildRequest(
                tags=(image,),
                containerfiles=(str(containerfile),),
                context=str(PROJECT),
                flags=("--layers", "--pull=false", *flags),
            )
            build_image(request, Silent())
        _forget_old([image])
    return image


def altered(name: str, image: str, change: Callable[[Path], None], source: Path) -> str:
    """An image whose files were changed after it was built, past everything that looks after them.

    Args:
        name: of the image, in the tests' own part of local storage.
        image: what it is made of.
        change: gets the root directory.
        source: the file that says what is changed; with another content, the image is made anew.

    Returns:
        The image's whole name.
    """
    key = json.dumps([image_id(image), _digest(source), name])
    made = f"{_NAMES}/{name}:{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    with _lock():
        if not image_exists(made):
            with working_container(image) as container:
                change(container.mount())
                container.commit(made, timestamp=1)
        _forget_old([made])
    return made


def build_version(base: str, version: str) -> str:
    """A version of the operating system that most tests boot; its name in local storage."""
    number = ("VERSION", version)
    example = build(
        f"example-{version}",
        PROJECT / "Containerfile.example",
        arguments=[("BASE", base), number],
    )
    return build(
        f"os-{version}",
        PROJECT / "test_vms/os/Containerfile",
        arguments=[("EXAMPLE", example), number],
    )


def _put_agent(foundation: str, name: str) -> None:
    with working_container(foundation) as container:
        tree = container.mount()
        shutil.rmtree(tree / _AGENT)
        copy_image_root(tree)
        container.run(["/usr/libexec/bootc/image-refresh"])
        # What buildah puts there for the program that it runs; the base image has neither.
        for injected in ("etc/hostname", "etc/resolv.conf"):
            (tree / injected).unlink(missing_ok=True)
        container.commit(name, timestamp=1)


def _digest(*places: Path) -> str:
    """Of names and contents, without what Python compiles."""
    digest = hashlib.sha256()
    for place in places:
        files = sorted(place.rglob("*")) if place.is_dir() else [place]
        for path in files:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(PROJECT)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _forget_old(used: list[str]) -> None:
    """Note the names that were just used; of each kind of image the newest few stay, and what was used lately."""
    now = time.time()
    record = cache_folder() / "test-images.json"
    known: dict[str, float] = {}
    if record.exists() and isinstance(noted := json.loads(record.read_text()), dict):
        known = noted
    known |= dict.fromkeys(used, now)
    kept: dict[str, float] = {}
    for name, seconds in sorted(known.items(), key=lambda item: -item[1]):
        kind = name.rpartition(":")[0]
        fellows = sum(one.rpartition(":")[0] == kind for one in kept)
        if fellows < _KEPT or now - seconds < _KEPT_SECONDS:
            kept[name] = seconds
        else:
            remove_image(name)
    record.write_text(json.dumps(kept))


@contextmanager
def _lock() -> Iterator[None]:
    """One builder at a time on this machine."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "test-images.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
