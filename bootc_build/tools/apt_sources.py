"""The build machine's own apt configuration: which archives it uses.

Read through ``apt-get indextargets``, which understands both formats of sources, every option in them
and ``mirror+file`` lists, and which needs no downloaded index.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import MissingProgramError, run

_FORMAT = "$(RELEASE)|$(COMPONENT)|$(REPO_URI)"
_ALIASES = ("stable", "testing", "unstable", "oldstable")
_INHERITED = (
    "Acquire::Check-Date ",
    "Acquire::Check-Valid-Until ",
    "Acquire::ForceIPv",
    "Acquire::Max-ValidTime",
    "Acquire::Min-ValidTime",
    "Acquire::Retries",
    "Acquire::http",
)
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class AptTarget:
    """One index that the build machine's apt would read.

    Attributes:
        release: the suite as the sources name it, without a trailing slash.
        component: for example ``main``.
        uri: the archive's address, without a trailing slash.
    """

    release: str
    component: str
    uri: str


class NoArchiveError(UserError):
    """The build machine's apt configuration names no Debian archive."""

    def __init__(self) -> None:
        super().__init__(
            "This machine's apt configuration names no Debian archive.",
            "Name one: bootc-build base --mirror URL",
        )


def parse_indextargets(text: str) -> list[AptTarget]:
    """Parse what ``apt-get indextargets`` printed in our format; lines of another form are skipped."""
    targets = []
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 3 and fields[2]:  # noqa: PLR2004 - the fields of _FORMAT
            targets.append(AptTarget(fields[0].rstrip("/"), fields[1], fields[2].rstrip("/")))
    return targets


def read_targets() -> list[AptTarget]:
    """The indexes of the build machine's apt configuration, in its order.

    Raises:
        NoArchiveError: this machine has no apt.
    """
    try:
        # Without the option apt hides every archive whose index was not downloaded yet.
        done = run(
            [
                *("apt-get", "indextargets", "--no-release-info"),
                *("--format", _FORMAT, "Created-By: Packages"),
            ]
        )
    except MissingProgramError as error:
        raise NoArchiveError from error
    return parse_indextargets(done.stdout)


def inherited_options() -> list[str]:
    """Lines of apt's configuration on this machine that say how an archive is reached and trusted in time.

    A proxy, for one, or that a snapshot's expired index is accepted.
    """
    done = run(["apt-config", "dump"], check=False)
    return [line for line in done.stdout.splitlines() if line.startswith(_INHERITED)]


def find_archive(targets: Iterable[AptTarget], suites: Sequence[str]) -> tuple[str, str | None]:
    """Addresses of the Debian archive and of its security archive in a machine's own sources.

    Args:
        targets: what the machine's apt reads.
        suites: names of suites that only a Debian archive has.

    Returns:
        The archive of the suites, and the one of -security, if the machine uses one.

    Raises:
        NoArchiveError: there is no entry for any of these suites.
    """
    of_main = [target for target in targets if target.component == "main"]
    # A vendor's archive may well call its suite "stable": such a name counts only without a better one.
    for names in (suites, _ALIASES):
        for target in of_main:
            if target.release in names:
                return target.uri, _security_archive(of_main)
    raise NoArchiveError


def _security_archive(targets: Iterable[AptTarget]) -> str | None:
    named = (t.uri for t in targets if t.release.endswith(("-security", "/updates")))
    return next(named, None)


def archive_keyring() -> Path:
    """The keyring that Debian's archives are verified with.

    Raises:
        UserError: it is not installed.
    """
    if not DEBIAN_KEYRING.exists():
        raise UserError(
            f"The keyring {DEBIAN_KEYRING} is missing: packages could not be verified.",
            "Install it: apt-get install debian-archive-keyring",
        )
    return DEBIAN_KEYRING
