"""Derived images: a Containerfile built by buildah, made bootable again where a step undid it, and linted.

The image gets its names last: whatever fails before, the old image keeps them.
"""

import re
from collections import deque
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bootc_build.image.lint import LintedImage, LintError, lint_image, mounted_image
from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.lint.registry import check_names, lint_root
from bootc_build.onhost.lint.root import Root
from bootc_build.onhost.process import CommandError
from bootc_build.onhost.progress import Progress
from bootc_build.tools import buildah, chroot
from bootc_build.tools.buildah import WorkingContainer

# What makes an image one that bootc installs: upstream's label, and ostree's.
LABELS = {"containers.bootc": "1", "ostree.bootable": "1"}

_REFRESH = "/usr/libexec/bootc/image-refresh"
_REFRESH_NEEDED = 10  # exit status of its --check
_REFRESHED_FROM = "bootc-build.refreshed-from"
# buildah leaves these files in every image that a RUN step made, and the import drops them.
_OF_BUILDAH = "buildah-injected"
_TAIL_LINES = 25
# With several stages, buildah puts the stage before it.
_STEP = re.compile(r"^(\[\d+/\d+\] )?STEP ")
_LOCAL_PULL = re.compile(r"^Trying to pull (localhost/\S+?)\.\.\.$")
_NO_BASE = (
    re.compile(r"initializing source docker://(\S+?): "),
    re.compile(r"(?:unable to copy from source|copying image) docker://(\S+?): "),
    re.compile(r"creating build container: (\S+): image not known"),
    re.compile(r'short-name "(\S+)" did not resolve'),
)
_NO_SPACE = "no space left on device"


@dataclass(frozen=True)
class BuildRequest:
    """One build.

    Attributes:
        tags: names that the image gets when all is well.
        containerfiles: paths or URLs; empty for the one in the context.
        context: directory or URL; None for buildah's default (that of the Containerfile, or ".").
        flags: further flags for ``buildah build``, verbatim.
        id_file: where to write the image's id, as buildah's ``--iidfile``.
        skip_lints: lints that are not run.
        warnings_are_fatal: refuse an image that has lint warnings.
    """

    tags: tuple[str, ...]
    containerfiles: tuple[str, ...] = ()
    context: str | None = None
    flags: tuple[str, ...] = ()
    id_file: Path | None = None
    skip_lints: tuple[str, ...] = ()
    warnings_are_fatal: bool = False


def build_image(request: BuildRequest, progress: Progress) -> LintedImage:
    """Build, refresh kernel and initramfs where a step changed them, lint, then tag.

    Raises:
        UsageError: the Containerfile or the context is not there; an unknown lint.
        UserError: a step failed, the base image is missing, the disk is full.
        LintError: the image would not install, boot or upgrade; it got no name.
    """
    check_names(request.skip_lints)
    _check_inputs(request)
    built = _build(request, progress)
    progress.step("Linting")
    finished = _finish(built, (*request.skip_lints, _OF_BUILDAH), progress)
    refused = finished.report.findings if request.warnings_are_fatal else finished.report.fatal
    if refused:
        raise LintError(finished, _kept(request.tags), warnings_too=request.warnings_are_fatal)
    if request.tags:
        buildah.tag_image(finished.image, request.tags)
    if request.id_file is not None:
        request.id_file.write_text(f"sha256:{finished.image}")
    return finished


def _finish(built: str, skip: Collection[str], progress: Progress) -> LintedImage:
    """Refresh, label and lint what buildah built; the image that comes of it, without a name."""
    with mounted_image(built) as (container, root):
        # The check takes as long as all lints: do both at once.
        with ThreadPoolExecutor(2) as beside:
            asked = beside.submit(_refresh_needed, container)
            looked = beside.submit(_missing_labels, built)
            report = lint_root(root, skip=skip)
        labels = looked.result()
        if not asked.result() and not labels:
            return LintedImage(built, report)
        if asked.result():
            earlier = buildah.images_with_label(f"{_REFRESHED_FROM}={built}")
            if earlier:
                return lint_image(earlier[0], skip)
            _refresh(container, progress)
            labels[_REFRESHED_FROM] = built
            report = lint_root(Root(container.mount()), skip=skip)
        progress.step("Committing")
        container.configure(labels=labels, options=["--created-by", f"RUN {_REFRESH}"])
        return LintedImage(container.commit(None), report)


def _missing_labels(image: str) -> dict[str, str]:
    config = buildah.inspect_image(image)["OCIv1"].get("config") or {}
    found = config.get("Labels") or {}
    return {name: value for name, value in LABELS.items() if name not in found}


def _kept(tags: Sequence[str]) -> str:
    if not tags:
        return "Mend the Containerfile and build again."
    names = ", ".join(f"'{tag}'" for tag in tags)
    return f"Nothing was tagged: {names} is what it was before. Mend the Containerfile and build again."


def _check_inputs(request: BuildRequest) -> None:
    context = request.context
    local = context is None or "://" not in context
    if context is not None and local and not context.startswith("git@"):
        if not Path(context).exists():
            raise UsageError(
                f"The context '{context}' does not exist.",
                "Give the directory that the Containerfile copies from, for example: .",
            )
    else:
        local = context is None
    folder = Path(context or ".")
    for name in request.containerfiles:
        if name in ("-", "/dev/stdin"):
            raise UsageError(
                "The Containerfile cannot come from standard input.", "Write it to a file."
            )
        if "://" not in name and not Path(name).is_file() and not (folder / name).is_file():
            raise UsageError(
                f"The Containerfile '{name}' does not exist.", "Name the right one with -f."
            )
    if not request.containerfiles and local and folder.is_dir():
        names = ("Containerfile", "Dockerfile")
        if not any((folder / name).is_file() for name in names):
            raise UsageError(
                f"There is no Containerfile in '{folder}'.",
                "Name it with -f, for example: bootc-build image -f Containerfile.example -t os:v1 .",
            )


def _build(request: BuildRequest, progress: Progress) -> str:
    steps: deque[str] = deque(maxlen=1)
    tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def show(line: str) -> None:
        if _STEP.match(line):
            steps.append(line)
            tail.clear()
            progress.step(line)
            return
        tail.append(line)
        progress.detail(line)
        if pulled := _LOCAL_PULL.match(line):
            # Nothing serves that name: without this, buildah asks port 443 here for six seconds.
            raise _base_missing(pulled[1])

    arguments = [argument for name in request.containerfiles for argument in ("--file", name)]
    arguments += request.flags
    if request.context is not None:
        arguments.append(request.context)
    try:
        return buildah.build(arguments, show)
    except CommandError as error:
        raise _explained(error, steps, tail) from error


def _explained(error: CommandError, steps: Sequence[str], tail: Sequence[str]) -> UserError:
    said = "\n".join(tail) or error.tail
    for pattern in _NO_BASE:
        if found := pattern.search(said):
            return _base_missing(found[1], said)
    if _NO_SPACE in said:
        return UserError(
            f"The disk is full: the build failed at {steps[-1] if steps else 'its start'}\n{said}",
            "Free space where images are kept, for example with: podman image prune",
        )
    where = f"at {steps[-1]}" if steps else "before its first step"
    return UserError(
        f"The build failed {where}\n{said}", "Mend that step; -v shows all that every step says."
    )


def _base_missing(name: str, said: str = "") -> UserError:
    details = f"\n{said}" if said else ""
    base = f"bootc-build base -t {name}"
    if name.startswith("localhost/"):
        return UserError(
            f"The base image '{name}' is not in local storage.{details}", f"Build it with: {base}"
        )
    return UserError(
        f"The base image '{name}' is not in local storage and could not be pulled.{details}",
        f"Check the name and the network, or build a base of your own with: {base}",
    )


def _refresh_needed(container: WorkingContainer) -> bool:
    """Whether packages changed what kernel, initramfs or caches are made of."""
    root = container.mount()
    if not (root / _REFRESH.lstrip("/")).is_file():
        return False
    quick = chroot.look(root, [_REFRESH, "--check"])
    if quick in (0, _REFRESH_NEEDED):
        return quick == _REFRESH_NEEDED
    try:
        container.run([_REFRESH, "--check"])
    except CommandError as error:
        if error.status != _REFRESH_NEEDED:
            raise
        return True
    return False


def _refresh(container: WorkingContainer, progress: Progress) -> None:
    progress.step("Refreshing what depends on the installed packages (kernel, initramfs, caches)")
    container.run(
        [_REFRESH],
        on_line=progress.detail,
        remedy=f"Run it in the Containerfile to see more: RUN {_REFRESH}",
    )
