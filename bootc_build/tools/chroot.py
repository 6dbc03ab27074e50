"""Run a program of another root directory that only looks around, without the cost of making a container.

The program is root in name, so that it may read what root owns, but has no capability (capabilities(7)), can gain
none, and cannot leave its root directory. It is not hidden from other processes of root, which it could send
signals: it gets no more than a step of a build has. There is no /proc and no /dev, unless the directory has them.
"""

import ctypes
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bootc_build.onhost.process import die_with_parent, end_process

# Numbers of prctl, from its manual page.
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITIES = 64
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_libc = ctypes.CDLL(None, use_errno=True)


def look(root: Path, argv: Sequence[str]) -> int | None:
    """Run a program to its end; what it prints is not kept.

    Args:
        root: its root directory.
        argv: the program, a path in there, and its arguments.

    Returns:
        Its exit status, negative for a signal; None if it cannot be started in this way.
    """

    def enter() -> None:
        die_with_parent()
        os.chroot(root)
        os.chdir("/")
        for number in range(_CAPABILITIES):
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
        if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "no_new_privs")

    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": _PATH, "LC_ALL": "C.UTF-8"},
            preexec_fn=enter,  # noqa: PLW1509 - system calls alone between fork and exec
        )
    except (OSError, subprocess.SubprocessError):
        return None
    with process:
        try:
            return process.wait()
        finally:
            end_process(process)
