"""Whether the disk below the system can be written to at all."""

_MOUNT_POINT, _SEPARATOR, _SUPER_OPTIONS = 4, "-", 3


def is_read_only(mount_point: str, mountinfo: str | None = None) -> bool:
    """Whether the file system at a mount point is itself read-only, as a live medium's is.

    The mount may be read-only over a writable file system, as /sysroot always is: that is not meant.

    Args:
        mount_point: for example ``/sysroot``.
        mountinfo: text in the form of /proc/self/mountinfo (proc(5)), which is read by default.
    """
    if mountinfo is None:
        with open("/proc/self/mountinfo", encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs
            text = file.read()
    else:
        text = mountinfo
    answer = False
    for line in text.splitlines():
        fields = line.split(" ")
        if fields[_MOUNT_POINT] == mount_point:
            options = fields[fields.index(_SEPARATOR) + _SUPER_OPTIONS]
            answer = "ro" in options.split(",")  # the last mount on a point hides those below
    return answer
