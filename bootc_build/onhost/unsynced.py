"""Programs that do not wait for the disk: for files that are made anew should the machine lose power.

A file system that is made inside a file, a tree that becomes one: the programs that write them (mke2fs, e2fsck,
libostree, GRUB's) sync after every step, as they must on a real machine. Here whoever delivers the result syncs it,
once. So the calls are turned into ones that succeed and do nothing, by a seccomp filter, which lasts for a process
and its children; it is what ``systemd-nspawn --suppress-sync`` does.

Formats: ``linux/filter.h``, ``linux/seccomp.h``, ``linux/audit.h``; numbers of calls from ``asm/unistd.h``.
"""

import ctypes
import platform
import struct
from typing import Final

# (AUDIT_ARCH_…, numbers of fsync, fdatasync, sync, syncfs, sync_file_range)
_CALLS: Final = {
    "x86_64": (0xC000003E, (74, 75, 162, 306, 277)),
    "aarch64": (0xC00000B7, (82, 83, 81, 267, 84)),
}
# Set for the installer by whoever makes a disk of what it writes.
VARIABLE: Final = "BOOTC_UNSYNCED"
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
_LOAD_WORD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_SUCCEED: Final = 0x00050000  # SECCOMP_RET_ERRNO with no error
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4  # in struct seccomp_data
_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _instructions(machine: str) -> bytes:
    """The filter for a machine (as uname has it); empty where its calls are not known."""
    if machine not in _CALLS:
        return b""
    architecture, numbers = _CALLS[machine]
    count = len(numbers)
    steps = [
        (_LOAD_WORD, 0, 0, _ARCHITECTURE_AT),
        # Calls of another architecture have other numbers: past all of these.
        (_JUMP_IF_EQUAL, 0, count + 1, architecture),
        (_LOAD_WORD, 0, 0, _NUMBER_AT),
        *((_JUMP_IF_EQUAL, count - at, 0, number) for at, number in enumerate(numbers)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _SUCCEED),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


_filter: Final = ctypes.create_string_buffer(_instructions(platform.machine()))
_program: Final = _Program((len(_filter) - 1) // 8, ctypes.cast(_filter, ctypes.c_void_p))


def write_unsynced() -> bool:
    """From now on nothing that this thread, its future threads and children do waits for the disk; for good.

    Nor do they gain privileges from files that they run (``no_new_privs``). May be called between fork and exec.

    Returns:
        Whether the kernel does so; otherwise all is as before, and only slower.
    """
    if not _program.length or _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    done: int = _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(_program), 0, 0)
    return done == 0
