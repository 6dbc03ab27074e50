"""Queue an image that is in the repository for the next boot."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import boot_record, bound, kargs, preflight
from bootc_build.onhost.host.booted import BootedSystem
from bootc_build.onhost.host.cleanup import clean_up
from bootc_build.onhost.host.kernel import check_etc, check_kernel
from bootc_build.onhost.host.next_boot import announce
from bootc_build.onhost.host.origin import Origin
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.progress import Part, Progress, Steps
from bootc_build.onhost.pull import PulledImage

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.deployment import Deployment
    from bootc_build.onhost.ostree.repo import Repo
    from bootc_build.onhost.ostree.sysroot import Sysroot


_SETTLING_SECONDS: Final = 600.0
_SETTLING_POLL_SECONDS: Final = 0.5
# Named as upstream names them to programs.
_PARTS: Final = (
    ("merging", "Merging Image"),
    ("bound_images", "Pulling Bound Images"),
    ("deploying", "Deploying Image"),
    ("cleanup", "Removing old images"),
)


@dataclass(frozen=True)
class Queued:
    """What was queued: the image, its version and manifest digest."""

    image: ImageReference
    version: str | None
    digest: str


def _image_kargs(repo: "Repo", commit: str) -> kargs.Arguments:
    from bootc_build.onhost.ostree.files import CommitTree  # noqa: PLC0415

    return kargs.kargs_of(CommitTree(repo, commit))


def _present_kargs(sysroot: "Sysroot", deployment: "Deployment") -> kargs.Arguments:
    """Those of the image that a deployment was made of; where its commit is damaged, by the deployment's files."""
    with suppress(UserError):
        return _image_kargs(sysroot.repo, deployment.checksum)
    folder = sysroot.path / deployment.path / kargs.KARGS_DIRECTORY
    with suppress(UserError, OSError, UnicodeDecodeError):
        files = {file.name: file.read_text() for file in folder.glob("*.toml") if file.is_file()}
        return kargs.image_kargs(files)
    return ()  # unknown, so all arguments stay: a way out of a damaged system matters more


def arguments_for(system: BootedSystem, commit: str) -> kargs.Arguments:
    """The kernel arguments of a new deployment of an image: the host's own, and those of the image's kargs.d.

    Raises:
        UserError: a kargs.d file of the image is wrong.
    """
    # What was queued meanwhile may have arguments that the owner changed; /etc is the booted one's.
    current = system.slots.staged or system.slots.booted
    return kargs.upgraded(
        kargs.of_deployment(current.options),
        _present_kargs(system.sysroot, current),
        _image_kargs(system.sysroot.repo, commit),
    )


def wait_until_settled(
    say: Callable[[str], None], *, root: str = "/", seconds: float = _SETTLING_SECONDS
) -> None:
    """Wait until the running system is on trial no more.

    libostree keeps the running deployment and drops the one before it when a queued one becomes real: the last
    good system would be gone before it is known whether this one is any good.

    Args:
        say: told that it waits.
        root: of the running system.
        seconds: how long at most.

    Raises:
        UserError: its boot failed, or is not complete in time.
    """
    deadline = time.monotonic() + seconds
    waits = False
    while not boot_record.is_settled(root):
        if boot_record.has_failed(root) or time.monotonic() >= deadline:
            state = "failed" if boot_record.has_failed(root) else "is not complete yet"
            raise UserError(
                f"This system is on trial, and its boot {state}: nothing is queued, so that the last good system stays.",
                "Look at 'bootc status', or go back with: bootc rollback",
            )
        if not waits:
            say("This system is on trial; waiting until its boot is complete")
        waits = True
        time.sleep(_SETTLING_POLL_SECONDS)


def stage(
    system: BootedSystem,
    image: ImageReference,
    pulled: PulledImage,
    *,
    progress: Progress,
    hold: bool = False,
) -> Queued:
    """Make a deployment of a pulled image and queue it; /etc is merged at shutdown.

    Args:
        system: the running system, its lock held.
        image: what the new deployment tracks.
        pulled: what it is made of.
        progress: hears of the steps, and of the container images that it binds, which are brought first.
        hold: queue it, but keep it from being booted until it is released.

    Raises:
        UserError: a kargs.d file of the image is wrong; libostree cannot (no space, …).
    """
    wait_until_settled(progress.step)
    digest = pulled.manifest_digest
    progress.task(_steps(digest, 0))
    repo = system.sysroot.repo
    check_kernel(repo, pulled.merge_commit)
    check_etc(repo, pulled.merge_commit)
    progress.task(_steps(digest, 1))
    bound.fetch(system.sysroot, pulled.merge_commit, progress)
    new = arguments_for(system, pulled.merge_commit)
    origin = Origin.parse(system.slots.booted.origin).tracking(image.to_origin())
    progress.task(_steps(digest, 2))
    queue(
        system,
        pulled.merge_commit,
        origin,
        new,
        digest=digest,
        hold=hold,
        before_cleanup=lambda: progress.task(_steps(digest, 3)),
        say=progress.step,
    )
    progress.task(_steps(digest, len(_PARTS)))
    return Queued(image, pulled.config.version, digest)


def _steps(digest: str, done: int) -> Steps:
    parts = [Part(name, text, index < done) for index, (name, text) in enumerate(_PARTS)]
    return Steps("staging", "Deploying Image", digest, done, len(_PARTS), tuple(parts[: done + 1]))


def queue(
    system: BootedSystem,
    commit: str,
    origin: Origin,
    arguments: kargs.Arguments,
    *,
    digest: str,
    hold: bool = False,
    before_cleanup: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda _text: None,
) -> None:
    """Queue a commit of the repository for the next boot, and remove what is no longer needed.

    Args:
        system: the running system, its lock held; /etc is merged from its booted deployment.
        commit: what to deploy.
        origin: what the new deployment tracks.
        arguments: the whole kernel command line, without ``ostree=``.
        digest: by which the preflight's report names it.
        hold: keep it from being booted until it is released.
        before_cleanup: called when it is queued, before what is not needed any more goes.
        say: told what the preflight warns of.

    Raises:
        UserError: the preflight finds that the next boot would be at risk; libostree cannot (no space, …).
    """
    wait_until_settled(say)
    sysroot = system.sysroot
    stateroot = system.slots.booted.stateroot
    merge = sysroot.merge_deployment(stateroot)
    if merge is None:
        raise UserError(f"There is no deployment of '{stateroot}' to take /etc from.")
    current = kargs.of_deployment((system.slots.staged or system.slots.booted).options)
    verdict = preflight.examine(system, commit, arguments, current)
    preflight.report(verdict, digest)
    verdict.refuse()
    for line in verdict.lines() if hold or verdict.concerns else ():
        say(line)
    sysroot.stage(
        stateroot=stateroot,
        commit=commit,
        origin=origin.serialise(),
        merge=merge,
        kargs=arguments,
        hold=hold,
    )
    boot_record.forget_finalize_failure()
    before_cleanup()
    clean_up(sysroot)
    announce(sysroot)
