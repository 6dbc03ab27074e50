"""``bootc-build run``: boot an image or a disk; its console on the terminal, or one command in it."""

import argparse
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path

from bootc_build.cli.output import StderrProgress
from bootc_build.disk.cached import cached_disk
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.binfmt import own_architecture
from bootc_build.tools.rootless import enter
from bootc_build.vm import terminal
from bootc_build.vm.accel import Accelerator, find_acceleration, qemu_version
from bootc_build.vm.machine import Machine
from bootc_build.vm.platform import ARCHITECTURES
from bootc_build.vm.snapshot import snapshot_shelf, why_not
from bootc_build.vm.spec import Disk, Firmware, Forward, MachineSpec
from bootc_build.vm.template import once_more, restore_or_make

_EPILOG = """
With COMMAND, the guest boots, runs it as root and goes; its output and its exit status are this program's.
Its own failures exit with 125. Without COMMAND the guest's serial console is on the terminal, with root
logged in; Ctrl-] turns the machine off.

With --snapshot the guest is in the state right after its first boot, within seconds: the first start keeps a
snapshot of its memory, later ones restore it.
"""
_DISK_SUFFIXES = (".raw", ".qcow2", ".img", ".vmdk", ".vhd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments; what follows "--" is not argparse's (main.py)."""
    parser.usage = "bootc-build run [OPTION…] IMAGE|DISK [-- COMMAND…]"
    parser.epilog = _EPILOG
    parser.add_argument(
        "target", metavar="IMAGE|DISK", help="an image in local storage, or a disk file"
    )
    parser.add_argument(
        "--memory", type=int, default=1024, metavar="MIB", help="memory in MiB (default: 1024)"
    )
    parser.add_argument(
        "--cpus", type=int, default=2, metavar="N", help="virtual processors (default: 2)"
    )
    parser.add_argument(
        "--firmware",
        choices=[kind.value for kind in Firmware],
        default=Firmware.BIOS.value,
        help="what starts the boot loader (default: bios)",
    )
    parser.add_argument(
        "--arch",
        choices=list(ARCHITECTURES),
        default=own_architecture(),
        help="the machine's architecture; another than this machine's is emulated, and arm64 takes "
        f"--firmware uefi (default: {own_architecture()})",
    )
    parser.add_argument(
        "--forward",
        action="append",
        default=[],
        metavar="HOST:GUEST",
        help="lead a TCP port of this machine's loopback address into the guest; may be repeated",
    )
    parser.add_argument(
        "--persist",
        action="store_true",
        help="write the guest's changes to the disk file (otherwise they are thrown away)",
    )
    parser.add_argument(
        "--snapshot",
        action="store_true",
        help="start from a snapshot of the booted guest, which the first such start makes",
    )
    parser.add_argument(
        "--console-log", type=Path, metavar="FILE", help="append the guest's console to a file"
    )


def run(args: argparse.Namespace, progress: StderrProgress) -> int:
    """Boot it; the exit status of the command, or 0."""
    spec = _spec(args, progress)
    # Another architecture's instructions can only be emulated.
    foreign = args.arch != own_architecture()
    acceleration = find_acceleration(Accelerator.TCG if foreign else None)
    with (
        # What the machine was restored from may go only after the machine.
        ExitStack() as holds,
        Machine(spec, acceleration=acceleration, log=args.console_log) as machine,
    ):
        what = f"{args.target} ({spec.firmware}, {acceleration.accelerator})"
        if args.snapshot:
            progress.step(f"Starting {what} from a snapshot, which is made if there is none")
            shelf = snapshot_shelf()
            snapshot = once_more(machine, lambda: restore_or_make(machine, shelf), progress.step)
            if snapshot is not None:
                holds.enter_context(snapshot)
        else:
            progress.step(f"Booting {what}")
            if args.after_dashes:
                once_more(machine, lambda: _boot(machine, progress), progress.step)
            else:
                machine.start()
        if args.after_dashes:
            return _run_command(machine, args, progress)
        _attach(machine, args, progress)
    return 0


def _boot(machine: Machine, progress: StderrProgress) -> None:
    machine.start()
    machine.console.add_line_listener(progress.detail)
    machine.wait_for_shell()


def _attach(machine: Machine, args: argparse.Namespace, progress: StderrProgress) -> None:
    progress.step("The console follows; Ctrl-] turns the machine off")
    if not args.snapshot:
        # A guest may have printed its first words while this program was on its way here.
        terminal.attach(machine.console, unread=True)
        return
    machine.qemu.set_reboot_allowed(allowed=True)
    with machine.lend_console() as console:
        terminal.attach(console)
        # At once, whatever the guest is in the middle of.
        machine.qemu.quit()


def _spec(args: argparse.Namespace, progress: StderrProgress) -> MachineSpec:
    if args.snapshot and args.persist:
        raise UsageError(
            "--snapshot and --persist exclude each other.",
            "What a guest writes after a restored snapshot cannot be kept on its disk.",
        )
    path = Path(args.target)
    if path.suffix in _DISK_SUFFIXES or _is_file(path):
        disk = Disk.open(path, persist=args.persist)
    elif args.persist:
        raise UsageError(
            f"'{args.target}' is an image; there is no disk to keep changes on.",
            f"Make one first: bootc-build disk {args.target}",
        )
    else:
        enter(args.given)
        disk = Disk.open(cached_disk(args.target, progress))
    spec = MachineSpec(
        disks=(disk,),
        name=path.name,
        memory_mib=args.memory,
        cpus=args.cpus,
        firmware=Firmware(args.firmware),
        architecture=ARCHITECTURES[args.arch],
        forwards=tuple(_forward(text) for text in args.forward),
        # On the terminal a restart is the user's own; for a command, and for a snapshot, it is trouble.
        may_reboot=not args.after_dashes and not args.snapshot,
        # A person's guest has no unit of ours; a snapshot is the same for commands and for the terminal.
        lane=bool(args.after_dashes) or args.snapshot,
    )
    if args.snapshot and (
        reason := why_not(spec, qemu_version(f"qemu-system-{spec.architecture}"))
    ):
        raise UsageError(f"There can be no snapshot: {reason}.", "Leave out --snapshot.")
    return spec


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return True  # Whoever opens it says what is wrong with it.


def _forward(text: str) -> Forward:
    host, _, guest = text.partition(":")
    if not (host.isdecimal() and guest.isdecimal() and 0 < int(guest) < 65536 > int(host)):  # noqa: PLR2004 - ports
        raise UsageError(f"'{text}' is no pair of ports.", "Write it like 2222:22.")
    return Forward(guest_port=int(guest), host_port=int(host))


def _run_command(machine: Machine, args: argparse.Namespace, progress: StderrProgress) -> int:
    if args.snapshot:
        machine.console.add_line_listener(progress.detail)
    command = shlex.join(args.after_dashes)
    progress.step(f"Running {command}")
    result = machine.execute(command, seconds=float("inf"))
    sys.stdout.buffer.write(result.stdout)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(result.stderr)
    sys.stderr.buffer.flush()
    if args.persist:
        progress.step("Powering the guest off")
        machine.shutdown()
    return result.status
