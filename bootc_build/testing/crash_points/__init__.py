"""The crash-point explorer: every state that a power cut may leave on a machine's disk, checked.

A machine's writes and flushes are recorded while it upgrades (`record`), as a log (`write_log`). From the log
follow the crash points (`points`): the disk after each flush, and after samples of what an unfinished epoch may have
left: some of its writes and not others, in part only. Each is laid out on a copy of the disk (`replay`), seen as the
boot loader and then as the booted kernel would see it (`views`), and judged (`oracle`): it leads whole to the old
system or to the new one. Equal states are judged once. `explore` does all of it, `report` tells of it.

What is promised and what is not stands in `docs/crash-points.md`.
"""
