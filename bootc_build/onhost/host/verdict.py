"""What the preflight says, and its rules: pure functions over what was found on the host and in the image."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.etc_merge import Difference, Outcome

# COMMAND_LINE_SIZE of x86 and arm64; the kernel cuts off what is longer.
_LONGEST_COMMAND_LINE: Final = 2048
# What the boot menu and libostree add: "ostree=" with its checksum, and what a boot on trial is told.
_ADDED_ARGUMENTS: Final = 200
_SHOWN: Final = 5
# Boot entries, the menu, and blocks that are not full.
_BOOT_MARGIN: Final = 2_000_000
ROOT_MARGIN: Final = 32_000_000
_ROOT_INODES: Final = 15_000


@dataclass(frozen=True)
class Concern:
    """Something that a check found.

    Attributes:
        check: the name of the check.
        severity: an ``error`` would put the next boot at risk; a ``warning`` would not.
        message: what, with names.
        remedy: what to do about it.
    """

    check: str
    severity: Literal["error", "warning"]
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the preflight came to.

    Attributes:
        checks: the names of those that were made.
        concerns: what they found.
        unknown: the names of those that need the image's layers, which are not here.
    """

    checks: tuple[str, ...]
    concerns: tuple[Concern, ...]
    unknown: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Concern, ...]:
        """What forbids to go on."""
        return tuple(each for each in self.concerns if each.severity == "error")

    def to_dict(self) -> dict[str, object]:
        """For programs."""
        found: dict[str, list[dict[str, str]]] = {name: [] for name in self.checks}
        for each in self.concerns:
            entry = {"severity": each.severity, "message": each.message, "remedy": each.remedy}
            found[each.check].append(entry)
        checks = [
            {
                "name": name,
                "ok": not any(each["severity"] == "error" for each in entries),
                "findings": entries,
            }
            for name, entries in found.items()
        ]
        return {"ok": not self.errors, "checks": checks, "unknown": list(self.unknown)}

    def lines(self) -> Iterator[str]:
        """For people."""
        for each in self.concerns:
            remedy = f" {each.remedy}" if each.remedy else ""
            yield f"preflight {each.severity}: {each.check}: {each.message}{remedy}"
        if not self.concerns:
            yield f"preflight: nothing stands against it ({', '.join(self.checks)})"
        if self.unknown:
            yield f"preflight: only known when it is downloaded: {', '.join(self.unknown)}"

    def refuse(self) -> None:
        """Forbid what would put the next boot at risk.

        Raises:
            UserError: there is something; names it all, with the first remedy.
        """
        if self.errors:
            facts = " ".join(each.message for each in self.errors)
            raise UserError(
                f"It is not queued, because the next boot would be at risk. {facts}",
                self.errors[0].remedy,
            )


def megabytes(size: int) -> str:
    """A size for people, never less than it is."""
    return f"{-(-size // 1_000_000)} MB"


def boot_space(needed: int, free: int, freeable: int) -> Iterator[Concern]:
    """Whether kernel and initramfs fit into /boot.

    Args:
        needed: their bytes; 0 where they are there already.
        free: bytes that are free there.
        freeable: bytes of kernels that go with the change, but only after the new one is there.
    """
    if not needed or needed + _BOOT_MARGIN <= free:
        return
    text = f"/boot has {free // 1_000_000} MB free, and the kernel of the image needs {megabytes(needed)}."
    if needed + _BOOT_MARGIN <= free + freeable:
        yield Concern(
            "boot-space",
            "warning",
            f"{text} The rollback's kernel has to go before the new one comes.",
            "Make /boot larger.",
        )
    else:
        yield Concern(
            "boot-space",
            "error",
            text,
            "Remove what does not belong there, or unpin a deployment: bootc unpin",
        )


def root_space(free: int, inodes: int | None, etc_bytes: int) -> Iterator[Concern]:
    """Whether a deployment's directories and its /etc fit into the root file system.

    Args:
        free: bytes.
        inodes: that are free; None where the file system makes them as they are needed.
        etc_bytes: of the present /etc.
    """
    needed = etc_bytes + ROOT_MARGIN
    if free < needed:
        yield Concern(
            "root-space",
            "error",
            f"The root file system has {free // 1_000_000} MB free, and {megabytes(needed)} are needed.",
            "Make room, for example by removing files from /var.",
        )
    if inodes is not None and inodes < _ROOT_INODES:
        yield Concern(
            "root-space",
            "error",
            f"The root file system has {inodes} inodes free, and a deployment takes up to {_ROOT_INODES}.",
            "Remove many small files, for example from /var.",
        )


def merge_of_etc(differences: Iterable[Difference]) -> Iterator[Concern]:
    """What the merge of /etc will not do, or do wrong."""
    for each in differences:
        if each.outcome is Outcome.CONFLICT:
            yield Concern(
                "etc-merge",
                "error",
                f"/etc/{each.path} was changed here, but cannot be kept: {each.problem}.",
                f"Move it away: mv /etc/{each.path} /var/",
            )
        elif each.outcome is Outcome.LOST:
            yield Concern(
                "etc-merge", "warning", f"/etc/{each.path} will not be kept: {each.problem}."
            )


def kernel_arguments(current: Sequence[str], new: Sequence[str]) -> Iterator[Concern]:
    """Whether the kernel would still find its root and all of its arguments."""
    length = len(" ".join(new)) + _ADDED_ARGUMENTS
    if length > _LONGEST_COMMAND_LINE:
        yield Concern(
            "kernel-arguments",
            "error",
            f"The kernel arguments would have about {length} bytes; the kernel reads {_LONGEST_COMMAND_LINE}.",
            "Remove some: bootc kargs",
        )
    had = any(each.startswith("root=") for each in current)
    if had and not any(each.startswith("root=") for each in new):
        yield Concern(
            "kernel-arguments",
            "error",
            "The kernel argument 'root=' would be gone, without which no root file system is found.",
            "Set it, for example: bootc kargs --append=root=UUID=...",
        )


@dataclass(frozen=True)
class MovedId:
    """A user or group (``kind``) that has another number in the new image.

    ``taken_by`` is who has the old number there; empty for nobody.
    """

    kind: Literal["user", "group"]
    name: str
    old: int
    new: int
    taken_by: str = ""


def parse_ids(text: str) -> dict[str, int]:
    """Names and numbers of a passwd(5) or group(5) file; lines that are none are passed over."""
    rows = (line.split(":") for line in text.splitlines())
    return {row[0]: int(row[2]) for row in rows if len(row) > 2 and row[2].isdecimal()}  # noqa: PLR2004


def moved_ids(
    kind: Literal["user", "group"], old: Mapping[str, int], new: Mapping[str, int]
) -> list[MovedId]:
    """Which names have other numbers."""
    both = sorted(old.keys() & new.keys())
    owners = {number: name for name, number in new.items()}
    return [
        MovedId(kind, name, old[name], new[name], owners.get(old[name], ""))
        for name in both
        if old[name] != new[name]
    ]


def ownership(found: Mapping[MovedId, str], *, kept: Collection[str] = ()) -> Iterator[Concern]:
    """Files that would belong to nobody, or to somebody else: then he could read and change them.

    Args:
        found: who moved, and a path that is his.
        kept: kinds of which the merge keeps this host's own numbers, because the file in /etc was changed here.
    """
    # The worst first: no more than a few are shown.
    for moved, path in sorted(found.items(), key=lambda each: not each[0].taken_by)[:_SHOWN]:
        crosses = bool(moved.taken_by) and moved.kind not in kept
        then = f", which would be {moved.taken_by}'s" if crosses else ""
        yield Concern(
            "users-and-groups",
            "error" if crosses else "warning",
            f"The {moved.kind} {moved.name} is {moved.old} here and {moved.new} in the image, and {path} is "
            f"{moved.old}'s{then}.",
            "Fix the number in the image (sysusers.d)."
            if crosses
            else "Fix the number in the image (sysusers.d), or change the owner after the reboot.",
        )
