"""Programs, by what needs them, and the versions of those whose age matters."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bootc_build.disk.preflight import programs as disk_programs
from bootc_build.doctor.findings import Finding, Level
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import MissingProgramError, find_program, run
from bootc_build.tools.apt_sources import DEBIAN_KEYRING
from bootc_build.vm.accel import Accelerator, check_qemu, find_acceleration, qemu_version
from bootc_build.vm.firmware import find_uefi_firmware
from bootc_build.vm.spec import Firmware

# e2fsprogs below this knows no clock but its own, so no two disks would be the same.
_OLDEST_E2FSPROGS = (1, 47, 0)


@dataclass(frozen=True)
class _Needed:
    program: str
    package: str
    needed_for: str
    level: Level = Level.MISSING


_PROGRAMS = (
    _Needed("mmdebstrap", "mmdebstrap", "base"),
    _Needed("apt-get", "apt", "base"),
    _Needed("buildah", "buildah", "base, image, lint, disk"),
    _Needed("podman", "podman", "image, disk, run"),
    _Needed("skopeo", "skopeo", "disk"),
    _Needed("qemu-system-x86_64", "qemu-system-x86", "run, test"),
    _Needed("blkid", "util-linux", "inspect, diff"),
    _Needed("docker-registry", "docker-registry", "test of upgrades", Level.WARNING),
    _Needed(
        "openssl", "openssl", "registries with TLS in tests, Secure Boot reports", Level.WARNING
    ),
    _Needed("sbverify", "sbsigntool", "Secure Boot reports of inspect", Level.WARNING),
    _Needed("grub-fstest", "grub-common", "inspect of btrfs, xfs and LVM", Level.WARNING),
    _Needed("qemu-system-aarch64", "qemu-system-arm", "arm64: run", Level.WARNING),
)


def check_programs() -> Iterator[Finding]:
    """Every program that some command starts."""
    wanted = {each.program: each for each in _PROGRAMS}
    for program, package in disk_programs().items():
        wanted.setdefault(program, _Needed(program, package, "disk"))
    for each in wanted.values():
        yield _program(each)


def check_versions() -> Iterator[Finding]:
    """Programs that are there and too old."""
    yield from _e2fsprogs()
    try:
        version = qemu_version()
    except UserError:
        return  # said among the programs
    try:
        check_qemu(version, find_acceleration().accelerator)
    except UserError as error:
        yield Finding("qemu", Level.MISSING, error.fact, error.remedy, "run, test")
    else:
        shown = ".".join(map(str, version))
        yield Finding("qemu", Level.OK, f"QEMU {shown} computes rightly")


def check_acceleration() -> Iterator[Finding]:
    """Whether KVM works, truly: a boot sector has to come back in time."""
    try:
        found = find_acceleration()
    except UserError as error:
        yield Finding("kvm", Level.WARNING, error.fact, error.remedy, "run, test")
        return
    if found.accelerator is Accelerator.KVM:
        yield Finding("kvm", Level.OK, "KVM runs guest code")
    else:
        yield Finding(
            "kvm",
            Level.WARNING,
            "Machines are emulated (TCG): a boot takes about a minute.",
            "Where /dev/kvm exists and works, add yourself to its group: usermod -aG kvm USER",
            "speed of run and test",
        )


def check_firmware() -> Iterator[Finding]:
    """UEFI firmware for machines."""
    for kind in (Firmware.UEFI, Firmware.UEFI_SECURE):
        try:
            files = find_uefi_firmware(kind)
        except UserError as error:
            yield Finding(
                str(kind), Level.WARNING, error.fact, error.remedy, f"run --firmware {kind}", "ovmf"
            )
        else:
            yield Finding(str(kind), Level.OK, str(files.code))


def check_keyring() -> Iterator[Finding]:
    """The keys of Debian's archive."""
    if DEBIAN_KEYRING.exists():
        yield Finding("archive keys", Level.OK, str(DEBIAN_KEYRING))
        return
    package = "debian-archive-keyring"
    yield Finding(
        "archive keys",
        Level.MISSING,
        f"{DEBIAN_KEYRING} is not there.",
        f"Install it with: apt-get install {package}",
        "base",
        package,
    )


def _program(needed: _Needed) -> Finding:
    try:
        path = find_program(needed.program)
    except MissingProgramError as error:
        remedy = f"Install it with: apt-get install {needed.package}"
        return Finding(
            needed.program, needed.level, error.fact, remedy, needed.needed_for, needed.package
        )
    return Finding(needed.program, Level.OK, path, needed_for=needed.needed_for)


def _e2fsprogs() -> Iterator[Finding]:
    try:
        said = run(["mke2fs", "-V"], check=False).stderr
    except MissingProgramError:
        return  # said among the programs
    found = re.search(r"mke2fs (\d+)\.(\d+)\.(\d+)", said)
    if found is None:
        return
    version = tuple(int(part) for part in found.groups())
    shown = ".".join(found.groups())
    if version >= _OLDEST_E2FSPROGS:
        yield Finding("e2fsprogs", Level.OK, f"e2fsprogs {shown}")
    else:
        yield Finding(
            "e2fsprogs",
            Level.MISSING,
            f"e2fsprogs {shown} cannot make the same file system twice.",
            "Install 1.47.0 or newer (Debian 12 has it).",
            "disk",
        )
