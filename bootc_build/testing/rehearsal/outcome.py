"""What came of a rehearsal, as records and in words."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_REACHED = "not reached"
    LEFT_OUT = "left out"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        title: what should be so, in words.
        outcome: whether it is.
        seconds: how long it took.
        reason: why it failed or was not reached, in one or a few lines.
        details: all that pytest and the machines say about the failure.
        built_in: one of the rehearsal's own, not of a user's file.
    """

    title: str
    outcome: Outcome
    seconds: float
    reason: str = ""
    details: str = ""
    built_in: bool = True


@dataclass(frozen=True)
class Rehearsed:
    """All checks of a rehearsal, in their order.

    Args:
        image: the name of what was rehearsed.
        checks: what was looked at.
        seconds: how long all of it took.
    """

    image: str
    checks: tuple[Check, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether none failed and all of the rehearsal's own were made."""
        bad = (Outcome.FAILED, Outcome.NOT_REACHED)
        return bool(self.checks) and not any(one.outcome in bad for one in self.checks)

    def of(self, outcome: Outcome) -> list[Check]:
        """The checks with this outcome."""
        return [one for one in self.checks if one.outcome is outcome]

    def verdict(self) -> str:
        """In words: one line, and for what failed its reason."""
        count = len(self.checks)
        checks = "1 check" if count == 1 else f"{count} checks"
        if self.passed:
            return f"{self.image} passed: {checks} in {self.seconds:.0f} s.\n" + self._promise()
        failed, missed = self.of(Outcome.FAILED), self.of(Outcome.NOT_REACHED)
        lines = [f"{self.image} FAILED {len(failed)} of {checks} in {self.seconds:.0f} s."]
        for one in failed:
            reason = one.reason.splitlines() or ["no reason was given"]
            lines.append(f"  {one.title}: {reason[0]}")
            lines += [f"    {line}" for line in reason[1:]]
        if missed:
            lines.append(f"  Not reached: {', '.join(one.title for one in missed)}.")
        return "\n".join(lines)

    def _promise(self) -> str:
        own = sum(not one.built_in for one in self.checks)
        parts = []
        if len(self.checks) > own:
            parts.append(
                "It boots without failed units, upgrades, rolls back and upgrades again, "
                "and what belongs to the machine stays."
            )
        if own:
            parts.append(f"{own} of the checks {'is' if own == 1 else 'are'} your own.")
        if left_out := len(self.of(Outcome.LEFT_OUT)):
            parts.append(f"{left_out} of them {'was' if left_out == 1 else 'were'} skipped.")
        return " ".join(parts)
