"""A TPM 2.0 in software: swtpm, a process beside QEMU for as long as its machine is on."""

import socket
from contextlib import ExitStack
from pathlib import Path

from bootc_build.onhost.process import find_program, running


def running_tpm(folder: Path, stack: ExitStack) -> socket.socket:
    """Start a TPM and return the end of its control channel that is QEMU's.

    swtpm ends with QEMU, or with this process.

    Args:
        folder: the machine's own; what the TPM holds is in `tpm` there.
        stack: ends it, and closes what this returns.

    Raises:
        MissingProgramError: swtpm is not installed.
    """
    find_program("swtpm", "Install it with: apt-get install swtpm")
    state = folder / "tpm"
    state.mkdir(exist_ok=True)
    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    with theirs:
        stack.enter_context(
            running(
                [
                    *("swtpm", "socket", "--tpm2", "--terminate"),
                    *("--tpmstate", f"dir={state}"),
                    *("--ctrl", f"type=unixio,clientfd={theirs.fileno()}"),
                    *("--log", f"file={state / 'log'}"),
                ],
                pass_fds=[theirs.fileno()],
            )
        )
    return ours
