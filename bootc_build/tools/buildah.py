"""buildah: working containers, commits and builds in the user's own containers-storage.

A working container exists exactly as long as its ``with`` block, also when the block ends by an error,
Ctrl-C or SIGTERM. Commands inside run with chroot isolation: no cgroups, no namespaces that a build
machine may forbid, and the host's network as it is.
"""

import json
import os
import resource
import secrets
import select
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import CommandError, run, run_streaming

ISOLATION = "chroot"
_MARKER = "BOOTC_BUILD_COMMAND"
_DEATH_SECONDS = 5

# Newer releases of buildah (Debian 13's) raise these limits to a million for what they run, and fail where
# only a privileged process may: in many containers and CI machines. Older ones (Debian 12's) first lower the
# number of processes to 32768 and cannot raise it again.
_RAISED_TO = 1_048_576
_CEILINGS = {
    "nofile": (resource.RLIMIT_NOFILE, _RAISED_TO),
    "nproc": (resource.RLIMIT_NPROC, 32_768),
}


class ImageMissingError(UserError):
    """An image is not in local storage."""

    def __init__(self, image: str) -> None:
        super().__init__(
            f"Image '{image}' is not in local storage.", f"Pull it with: podman pull {image}"
        )
        self.image = image


@dataclass(frozen=True)
class Volume:
    """A bind mount for one command in a working container.

    Attributes:
        source: path on the build machine.
        target: absolute path in the container.
        read_only: refuse writes.
    """

    source: Path
    target: str
    read_only: bool = False

    def argument(self) -> str:
        """The value for buildah's ``--volume``."""
        return f"{self.source}:{self.target}:{'ro' if self.read_only else 'rw'}"


@dataclass
class WorkingContainer:
    """One buildah working container. Obtain it from ``working_container()``."""

    name: str
    _mountpoint: Path | None = field(default=None, repr=False)

    def mount(self) -> Path:
        """Path of its root file system on the build machine; unmounted with the container.

        Raises:
            CommandError: not root, and not inside ``buildah unshare``.
        """
        if self._mountpoint is None:
            done = run(["buildah", "mount", self.name])
            self._mountpoint = Path(done.stdout.strip())
        return self._mountpoint

    def run(
        self,
        argv: Sequence[str],
        *,
        volumes: Sequence[Volume] = (),
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] | None = None,
        remedy: str = "",
    ) -> str:
        """Run a command as root in the container and return its standard output.

        Args:
            argv: program and arguments; never a shell string.
            volumes: bind mounts for this command alone.
            env: environment variables for this command alone.
            on_line: takes each line of the merged output as it appears; the result is then empty.
            remedy: what the user can do when it fails.

        Raises:
            CommandError: it failed; has its status and the tail of its output.
        """
        command = ["buildah", "run", "--isolation", ISOLATION, "--user", "0:0"]
        for volume in volumes:
            command += ["--volume", volume.argument()]
        # Whatever the command starts inherits this, and is found by it when the command has ended.
        marker = f"{_MARKER}={secrets.token_hex(8)}"
        for variable in (*(f"{key}={value}" for key, value in (env or {}).items()), marker):
            command += ["--env", variable]
        command += [self.name, "--", *argv]
        try:
            if on_line is not None:
                run_streaming(command, on_line, remedy=remedy)
                return ""
            return run(command, remedy=remedy).stdout
        finally:
            _end_processes_with(marker)

    def configure(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Set labels and other image configuration (``options`` are buildah config's own)."""
        command = ["buildah", "config", *options]
        for key, value in sorted((labels or {}).items()):
            command += ["--label", f"{key}={value}"]
        run([*command, self.name])

    def commit(
        self,
        tag: str | None,
        *,
        timestamp: int | None = None,
        squash: bool = False,
        omit_history: bool = False,
    ) -> str:
        """Write the container as image ``tag`` and return the image's id (64 hex digits).

        Args:
            tag: name in local storage; an image that had it keeps its layers, without the name. None: no name.
            timestamp: seconds since the epoch for the image and every file in the new layer.
            squash: one layer instead of one more.
            omit_history: leave buildah's history out.
        """
        command = ["buildah", "commit", "--quiet", "--identity-label=false", "--format", "oci"]
        if timestamp is not None:
            command += ["--timestamp", str(timestamp)]
        if squash:
            command.append("--squash")
        if omit_history:
            command.append("--omit-history")
        target = [self.name] if tag is None else [self.name, tag]
        done = run([*command, *target], remedy="Is there space left? See: df -h")
        return done.stdout.split()[-1].removeprefix("sha256:")


def _end_processes_with(marker: str) -> None:
    """End what a command left running: nothing inside a container outlives the command.

    Without a PID namespace only the command itself ends together with buildah, not what it started.
    """
    processes = Path("/proc")
    while left := [fd for each in processes.glob("[0-9]*") if (fd := _open_if(each, marker)) >= 0]:
        for pidfd in left:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], _DEATH_SECONDS)
            os.close(pidfd)


def _open_if(process: Path, marker: str) -> int:
    """A handle (pidfd) of a process in /proc that has the marker in its environment, or -1."""
    try:
        pidfd = os.pidfd_open(int(process.name))
    except OSError:
        return -1
    try:
        if marker.encode() in (process / "environ").read_bytes().split(b"\0"):
            return pidfd
    except OSError:
        pass  # it has ended, or is somebody else's
    os.close(pidfd)
    return -1


def _limits() -> list[str]:
    """Flags that keep the limits of this process where they are lower than what buildah would set."""
    flags = []
    for name, (number, ceiling) in _CEILINGS.items():
        soft, hard = resource.getrlimit(number)
        if hard != resource.RLIM_INFINITY and hard < _RAISED_TO:
            flags += ["--ulimit", f"{name}={min(soft, ceiling)}:{min(hard, ceiling)}"]
    return flags


@contextmanager
def working_container(image: str) -> Iterator[WorkingContainer]:
    """A working container made from a local image (or ``scratch``), removed when the block ends.

    Raises:
        ImageMissingError: the image is not in local storage; nothing is pulled.
    """
    # The name is ours, so that a container can be removed even if we are stopped while it is made.
    container = WorkingContainer(f"bootc-build-{secrets.token_hex(8)}")
    try:
        try:
            limits = _limits()
            run(
                [
                    "buildah",
                    "from",
                    "--quiet",
                    "--pull-never",
                    *limits,
                    "--name",
                    container.name,
                    image,
                ]
            )
        except CommandError:
            if image != "scratch":
                image_id(image)
            raise
        yield container
    finally:
        run(["buildah", "rm", container.name], check=False)


def image_exists(image: str) -> bool:
    """Whether a local image has this name or id."""
    return run(["buildah", "inspect", "--type", "image", image], check=False).status == 0


def image_id(image: str) -> str:
    """The id (64 hex digits) of a local image.

    Raises:
        ImageMissingError: it is not in local storage.
    """
    return str(inspect_image(image)["FromImageID"])


def inspect_image(image: str) -> dict[str, Any]:
    """What buildah knows of a local image (``OCIv1`` is its configuration).

    Raises:
        ImageMissingError: it is not in local storage.
    """
    try:
        done = run(["buildah", "inspect", "--type", "image", image])
    except CommandError as error:
        if "image not known" in error.tail or "locating image" in error.tail:
            raise ImageMissingError(image) from error
        raise
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def remove_image(image: str) -> None:
    """Remove a name from local storage, and the image with its last name. No error if it is not there."""
    run(["buildah", "rmi", image], check=False)


def tag_image(image: str, names: Sequence[str]) -> None:
    """Give a local image more names; an image that had one of them loses it."""
    run(["buildah", "tag", image, *names])


def push(
    image: str,
    destination: str,
    *,
    fast: bool = False,
    tls_verify: bool = True,
    auth_file: Path | None = None,
) -> str:
    """Copy a local image out and return the digest of the manifest that arrived ("sha256:…").

    Args:
        image: name or id.
        destination: with its transport, such as "docker://registry.example/os:v1".
        fast: compress the layers little rather than well.
        tls_verify: insist on TLS and a good certificate.
        auth_file: an auth.json to be used instead of the user's own.

    Raises:
        CommandError: no such image, refused, or no space.
    """
    with tempfile.NamedTemporaryFile(prefix="bootc-build-digest-") as digest:
        run(
            [
                *("buildah", "push", "--quiet", "--digestfile", digest.name),
                *(["--compression-format", "gzip", "--compression-level", "1"] if fast else []),
                *([] if tls_verify else ["--tls-verify=false"]),
                *([] if auth_file is None else ["--authfile", str(auth_file)]),
                *(image, destination),
            ]
        )
        return Path(digest.name).read_text().strip()


def image_names(repository: str) -> tuple[str, ...]:
    """The names ("REPOSITORY:TAG") of the local images in a repository, the newest image first."""
    shown = ["--format", "{{.Name}}:{{.Tag}}", "--filter", f"reference={repository}"]
    return tuple(run(["buildah", "images", *shown]).stdout.split())


def images_with_label(label: str) -> tuple[str, ...]:
    """Ids (64 hex digits) of the local images with the label ("name=value"), newest first."""
    done = run(
        ["buildah", "images", "--quiet", "--no-trunc", "--all", "--filter", f"label={label}"]
    )
    ids = [line.removeprefix("sha256:") for line in done.stdout.split()]
    return tuple(dict.fromkeys(ids))


def build(
    arguments: Sequence[str],
    on_line: Callable[[str], None],
    *,
    cwd: Path | None = None,
    remedy: str = "",
) -> str:
    """``buildah build`` with chroot isolation and the given arguments; returns the image's id (hex).

    However it ends, no working container and no mount of this build is left.

    Args:
        arguments: flags and context directory; flags given here win over those set here.
        on_line: takes each line of the merged output as it appears.
        cwd: working directory.
        remedy: what the user can do when it fails.

    Raises:
        CommandError: the build failed; has the last lines.
    """
    # buildah leaves its working containers behind when it is interrupted, under names that tell nothing
    # about whose they are. What it notes about each of them includes the secrets on offer, so an offer
    # that no step takes tells ours from those of another build at the same time.
    marker = f"bootc-build-{secrets.token_hex(8)}"
    with tempfile.TemporaryDirectory(prefix="bootc-build-") as folder:
        id_file = Path(folder, "id")
        argv = ["buildah", "build", "--isolation", ISOLATION, "--force-rm", *_limits()]
        argv += ["--secret", f"id={marker},src=/dev/null", "--iidfile", str(id_file), *arguments]
        try:
            run_streaming(argv, on_line, cwd=cwd, remedy=remedy)
        except BaseException:
            _remove_containers_of_build(marker)
            raise
        return id_file.read_text().strip().removeprefix("sha256:")


def _remove_containers_of_build(marker: str) -> None:
    done = run(["buildah", "info"], check=False)
    if done.status != 0:
        return
    store = json.loads(done.stdout)["store"]
    folder = Path(store["GraphRoot"], f"{store['GraphDriverName']}-containers")
    for record in folder.glob("*/userdata/buildah.json"):
        try:
            ours = marker in record.read_text()
        except OSError:  # another build's, removed just now
            continue
        if ours:
            run(["buildah", "rm", record.parent.parent.name], check=False)
