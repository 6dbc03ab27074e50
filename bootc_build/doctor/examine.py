"""All checks, in the order in which they are shown."""

from pathlib import Path

from bootc_build.doctor import machine, programs
from bootc_build.doctor.findings import Finding


def examine(output: Path) -> list[Finding]:
    """Look at everything; nothing that is wrong keeps the rest from being looked at.

    Args:
        output: folder that disks would be written to.
    """
    return [
        *programs.check_programs(),
        *programs.check_versions(),
        *programs.check_keyring(),
        *programs.check_firmware(),
        *programs.check_acceleration(),
        *machine.check_kernel(),
        *machine.check_rights(),
        *machine.check_space(output),
    ]
