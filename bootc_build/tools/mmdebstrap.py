"""mmdebstrap: a Debian file tree from packages, in a given empty directory."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import CommandError, find_program, running

# What mmdebstrap calls its phases -> what a reader of the progress wants to know.
_PHASES = {
    "running apt-get update": "Reading the package index",
    "downloading packages with apt": "Downloading the essential packages",
    "extracting archives": "Extracting the essential packages",
    "installing essential packages": "Configuring the essential packages",
    "installing remaining packages": "Installing the other packages",
}

_KEPT_SECONDS = 30 * 86400


class MirrorError(UserError):
    """The archive cannot be reached or has no such suite."""


def require() -> None:
    """Fail early when mmdebstrap is missing.

    Raises:
        MissingProgramError: it is not installed.
    """
    find_program("mmdebstrap")


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bootc-build-base.", dir="/var/tmp") as name:
        yield Path(name)


def build_tree(
    target: Path,
    *,
    suite: str,
    architecture: str,
    sources: Sequence[str],
    packages: Sequence[str],
    keyring: Path,
    seed: Callable[[Path], None],
    cache: Path | None,
    options: Sequence[str] = (),
    apt_options: Sequence[str] = (),
    epoch: int,
    on_phase: Callable[[str], None],
    on_line: Callable[[str], None],
) -> None:
    """Fill ``target`` with Debian: essential packages, apt and ``packages``, without recommended ones.

    Args:
        target: an empty directory; owned by root, as is everything below it.
        suite: the suite's name.
        architecture: Debian's name of it; its programs can be run here.
        sources: one-line entries of apt's sources.
        packages: names of packages.
        keyring: what the archive is verified with.
        seed: fills a directory whose content lies in ``target`` before any package does.
        cache: a directory of .deb files to use and to add to; none without it.
        options: lines for dpkg's configuration during the build.
        apt_options: lines for apt's configuration during the build.
        epoch: SOURCE_DATE_EPOCH for the packages' scripts, in seconds.
        on_phase: takes a sentence when a phase begins.
        on_line: takes each line of output.

    Raises:
        MirrorError: no index could be read.
        CommandError: a package could not be installed.
    """
    with _scratch() as scratch:
        seeded = scratch / "seed"
        seeded.mkdir(mode=0o755)
        seed(seeded)
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            _prefill(cache, seeded / "var/cache/apt/archives")
        argv = ["mmdebstrap", "--mode=root", "--variant=apt", "--format=directory", "--verbose"]
        argv += [f"--keyring={keyring}", f"--include={','.join(packages)}"]
        argv += [f"--dpkgopt={option}" for option in options]
        argv += [f"--aptopt={option}" for option in ('Acquire::Languages "none"', *apt_options)]
        # Whether its programs can be run is known: mmdebstrap looks where our namespace has nothing.
        argv += [f"--architectures={architecture}", "--skip=check/qemu"]
        argv += ["--skip=cleanup/apt/cache"]
        argv += ["--skip=essential/unlink", f"--setup-hook=sync-in {seeded} /"]
        argv += [suite, str(target), *sources]
        lines: list[str] = []

        def listen(line: str) -> None:
            lines.append(line)
            on_line(line)
            if line.startswith("I: "):
                for beginning, sentence in _PHASES.items():
                    if line.startswith(f"I: {beginning}"):
                        on_phase(sentence)

        status = _run(argv, listen, {"SOURCE_DATE_EPOCH": str(epoch)})
        if status != 0:
            raise _explain(status, lines, suite)
    if cache is not None:
        _keep(target / "var/cache/apt/archives", cache)


def _run(argv: Sequence[str], on_line: Callable[[str], None], env: Mapping[str, str]) -> int:
    """Run mmdebstrap in process and mount namespaces of its own; its exit status.

    A signal to mmdebstrap would leave apt and the packages' scripts running. The end of a process
    namespace's first process ends all others in it, and their mounts go with their mount namespace.
    """
    namespaces = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
    with running(
        [*namespaces, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
    ) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above
        try:
            for raw in process.stdout:
                on_line(raw.decode(errors="backslashreplace").rstrip("\n"))
        except BaseException:
            process.kill()  # unshare ignores SIGTERM
            process.stdout.read()  # the end comes when the last process of the namespace is gone
            raise
        return process.wait()


@dataclass(frozen=True)
class _Cause:
    """What went wrong when one of the signs is in mmdebstrap's output."""

    signs: tuple[str, ...]
    fact: str
    remedy: str
    error: type[UserError] = MirrorError


_CAUSES = (
    _Cause(
        ("No space left on device",),
        "The disk is full: the packages could not be unpacked.",
        "A base image needs about 1.5 GB while it is built. See: df -h",
        UserError,
    ),
    _Cause(
        ("NO_PUBKEY", "is not signed", "no longer signed", "Missing key"),
        "The archive's signature for '{suite}' could not be verified with the keys of this machine.",
        "A newer debian-archive-keyring may have the key: apt-get install debian-archive-keyring",
    ),
    _Cause(
        ("is expired (invalid since",),
        "The archive's index for '{suite}' has expired.",
        "Use an up-to-date mirror (--mirror URL); for a snapshot, have this machine's apt accept it: "
        'Acquire::Check-Valid-Until "false";',
    ),
    _Cause(
        ("Could not resolve", "Could not connect", "Connection failed", "Unable to connect"),
        "The archive of '{suite}' cannot be reached.",
        "Check the network and this machine's apt sources, or name a mirror with --mirror.",
    ),
    _Cause(
        ("does not have a Release file", "404  Not Found"),
        "The archive has no suite '{suite}', or not all of it.",
        "Name a mirror that has it: --mirror URL",
    ),
    _Cause(
        ("Unable to locate package", "has no installation candidate"),
        "A package is not in the archive of '{suite}'.",
        "Check the --package arguments.",
        UserError,
    ),
)


def _explain(status: int, lines: Sequence[str], suite: str) -> UserError:
    """What a failed run means to the user."""
    text = "\n".join(lines)
    complaints = [line for line in lines if line.startswith(("E: ", "Err:", "W: Failed", "W: GPG"))]
    said = "\n".join(dict.fromkeys(complaints[:6]))
    for cause in _CAUSES:
        if any(sign in text for sign in cause.signs):
            return cause.error(f"{cause.fact.format(suite=suite)}\n{said}", cause.remedy)
    return CommandError(["mmdebstrap"], status, said or "\n".join(lines[-20:]))


def _prefill(cache: Path, archives: Path) -> None:
    archives.mkdir(parents=True)
    for package in sorted(cache.glob("*.deb")):
        _link_or_copy(package, archives / package.name)


def _keep(archives: Path, cache: Path) -> None:
    """Move what was downloaded into the cache; drop from it what no build has used for a month."""
    used = {package.name for package in archives.glob("*.deb")}
    for name in sorted(used):
        kept = cache / name
        if not kept.exists():
            partial = cache / f".{name}.{os.getpid()}"
            shutil.copyfile(archives / name, partial)
            partial.rename(kept)
        os.utime(kept)
        (archives / name).unlink()
    for package in cache.glob("*.deb"):
        if time.time() - package.stat().st_mtime > _KEPT_SECONDS:
            package.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
