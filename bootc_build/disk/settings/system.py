"""Name, language, time, the SSH server and mounts of a machine, as files. Pure."""

from collections.abc import Iterator
from typing import Final

from bootc_build.config.disk import DiskConfiguration, Sshd
from bootc_build.disk.identity import Identity, Role
from bootc_build.disk.settings.deployment import MachineFile
from bootc_build.disk.wanted import Layout

# sshd takes the first value that it reads, so this comes before what the image has.
SSHD: Final = "/etc/ssh/sshd_config.d/00-bootc-build-disk.conf"
TIMESYNCD: Final = "/etc/systemd/timesyncd.conf.d/60-bootc-build-disk.conf"
# A disk may answer late (a busy host, a slow array); 90 seconds would end in emergency mode.
_PATIENCE: Final = "x-systemd.device-timeout=10min"


def system_files(wanted: DiskConfiguration) -> Iterator[MachineFile]:
    """The files that say who the machine is."""
    if wanted.hostname is not None:
        yield MachineFile("/etc/hostname", f"{wanted.hostname}\n")
    if wanted.locale is not None:
        yield MachineFile("/etc/locale.conf", f"LANG={wanted.locale}\n")
    if wanted.keyboard is not None:
        yield MachineFile("/etc/vconsole.conf", f"KEYMAP={wanted.keyboard}\n")
    if wanted.ntp_servers:
        yield MachineFile(TIMESYNCD, f"[Time]\nNTP={' '.join(wanted.ntp_servers)}\n")
    if text := sshd_text(wanted.sshd):
        yield MachineFile(SSHD, text)


def sshd_text(wanted: Sshd) -> str:
    """Configuration of the SSH server; empty where nothing is said."""
    said = {
        "PasswordAuthentication": _yes(wanted.password_authentication),
        "KbdInteractiveAuthentication": _yes(wanted.keyboard_interactive),
        "PermitRootLogin": wanted.root_login,
        "ClientAliveInterval": wanted.client_alive_interval,
    }
    return "".join(f"{key} {value}\n" for key, value in said.items() if value is not None)


def _yes(value: bool | None) -> str | None:  # noqa: FBT001 - it is the value
    return None if value is None else "yes" if value else "no"


def fstab(existing: str, identity: Identity, layout: Layout) -> str:
    """The machine's fstab with lines for swap and further file systems."""
    lines = existing.splitlines()
    if layout.swap_size:
        # Not left to its partition type, for which systemd would do the same: that finds it only where
        # firmware says which disk was booted.
        lines.append(f"UUID={identity.file_system(Role.SWAP)} none swap {_PATIENCE} 0 0")
    for extra in layout.extras:
        uuid = identity.file_system(Role.EXTRA, extra.mountpoint)
        options = ",".join((*(extra.options or ("defaults",)), _PATIENCE))
        check = 2 if extra.filesystem == "ext4" else 0
        lines.append(f"UUID={uuid} {extra.mountpoint} {extra.filesystem} {options} 0 {check}")
    root = identity.file_system(Role.ROOT)
    for each in layout.subvolumes:
        if each.mountpoint != "/":
            options = f"subvol={each.name},{_PATIENCE}"
            lines.append(f"UUID={root} {each.mountpoint} btrfs {options} 0 0")
    return "".join(f"{line}\n" for line in lines)
