"""What can go wrong with a virtual machine, each with what was awaited and what the guest last said."""

from collections.abc import Sequence

from bootc_build.onhost.errors import UserError


class MachineError(UserError):
    """A virtual machine failed: the machine, not the thing that is tested in it.

    Args:
        fact: one sentence that says what happened.
        remedy: what to do about it; may be empty.
        console_tail: the last console lines, shown below the fact.
    """

    def __init__(self, fact: str, remedy: str = "", console_tail: Sequence[str] = ()) -> None:
        self.console_tail = tuple(console_tail)
        if console_tail:
            said = "\n".join(f"    {line}" for line in console_tail)
            fact = f"{fact}\nThe last console lines:\n{said}"
        super().__init__(fact, remedy)


class WaitTimeoutError(MachineError):
    """What was waited for did not happen in its time."""


class MachineDiedError(MachineError):
    """QEMU ended although nobody asked it to."""


class EmulatorCrashError(MachineDiedError):
    """QEMU ended by a fault of its own (an assertion, a segmentation fault)."""


class ConsoleBadnessError(MachineError):
    """The console showed a panic, an oops, emergency mode or the like."""


class ShellLostError(MachineError):
    """The guest's shell no longer answers in frames."""


class GuestCommandError(UserError):
    """A command in the guest did not do what the caller required.

    Args:
        fact: the command and its exit status.
        output: the tail of what it printed.
    """

    def __init__(self, fact: str, output: str = "") -> None:
        said = f":\n{output.rstrip()}" if output.strip() else "."
        super().__init__(f"{fact}{said}")
