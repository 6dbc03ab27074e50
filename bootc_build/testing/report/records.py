"""What a report tells of, gathered while the tests run."""

from dataclasses import dataclass, field

from bootc_build.testing.artifacts import MachineArtifacts


@dataclass
class ReportedTest:
    """One test.

    Attributes:
        nodeid: pytest's name of it.
        outcome: "passed", "failed", "error", "skipped" or "expected failure".
        seconds: how long setup, test and teardown took.
        failure: what pytest says of it.
        sections: what was captured, by title.
        rerun: the command that runs it again.
        machines: numbers of its machines.
    """

    nodeid: str
    outcome: str = "passed"
    seconds: float = 0.0
    failure: str = ""
    sections: dict[str, str] = field(default_factory=dict)
    rerun: str = ""
    machines: list[int] = field(default_factory=list)

    @property
    def is_bad(self) -> bool:
        """Whether it failed in any way."""
        return self.outcome in {"failed", "error"}


@dataclass(frozen=True)
class MachineEntry:
    """One machine, and where its files are; they may be gone by the time they are looked for."""

    number: int
    artifacts: MachineArtifacts


@dataclass(frozen=True)
class ReportedRun:
    """A test run.

    Args:
        begun: seconds since 1970.
        seconds: how long it took.
        tests: in the order in which they ran.
        machines: by number.
    """

    begun: float
    seconds: float
    tests: list[ReportedTest]
    machines: list[MachineEntry]
