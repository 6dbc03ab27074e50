"""What a base image consists of, decided before anything is touched.

Pure: suite, variant and the user's wishes in, a ``BasePlan`` out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bootc_build.onhost.errors import UsageError

# Suite -> whether -updates and -security exist. Each was built and booted to no failed unit as the minimal
# variant; server and cloud were booted on trixie. Only trixie's runs are tested at every change.
SUITES = {"trixie": True, "bookworm": True, "forky": True, "sid": False}
VARIANTS = ("minimal", "server", "cloud")
COMPONENTS = ("main", "non-free-firmware")

_BOOT = (
    "dracut",
    "systemd",
    "systemd-sysv",
    "udev",
    "kmod",
    "zstd",
    "shim-signed",
)
# skopeo depends on a network stack for containers: netavark is a fifth of the other one's size.
_AGENT = (
    "ostree",
    "ostree-boot",
    "gir1.2-ostree-1.0",
    "python3-gi",
    "python3-yaml",
    "skopeo",
    "netavark",
)
_SYSTEM = (
    "systemd-resolved",
    "systemd-timesyncd",
    "dbus",
    "libpam-systemd",
    "login",
    "passwd",
    "openssh-server",
    "ca-certificates",
    "debian-archive-keyring",
    "e2fsprogs",
    "dosfstools",
    "fdisk",
    "mtools",
    "iproute2",
    "iputils-ping",
    "procps",
    "sudo",
    "less",
    "nano",
    "netbase",
    "tzdata",
)
_SERVER = (
    "bash-completion",
    "bind9-dnsutils",
    "curl",
    "htop",
    "lsof",
    "nftables",
    "parted",
    "pciutils",
    "psmisc",
    "rsync",
    "strace",
    "tcpdump",
    "tmux",
    "usbutils",
    "vim-tiny",
    "xfsprogs",
)
_CLOUD = ("cloud-init", "cloud-guest-utils", "curl")

# variant -> kernel without the architecture, further packages
_VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "minimal": ("linux-image-cloud", ()),
    "server": ("linux-image", _SERVER),
    "cloud": ("linux-image-cloud", _CLOUD),
}
# architecture -> its boot loaders; arm64 knows no BIOS
ARCHITECTURES = {
    "amd64": ("grub-pc-bin", "grub-efi-amd64-signed"),
    "arm64": ("grub-efi-arm64-signed",),
}


@dataclass(frozen=True)
class Archive:
    """Where packages come from.

    Attributes:
        uri: the archive of the suite and its -updates.
        security_uri: the archive of -security; None when there is none to use.
    """

    uri: str
    security_uri: str | None = None


@dataclass(frozen=True)
class Source:
    """One entry of apt's sources: an archive and the suites taken from it."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...] = COMPONENTS

    def one_line_entries(self) -> list[str]:
        """The entry in the one-line format, a line for each suite."""
        return [f"deb {self.uri} {suite} {' '.join(self.components)}" for suite in self.suites]

    def deb822(self, keyring: str) -> str:
        """The entry as a deb822 stanza, signed by the keyring at that path in the image."""
        return (
            f"Types: deb\nURIs: {self.uri}\nSuites: {' '.join(self.suites)}\n"
            f"Components: {' '.join(self.components)}\nSigned-By: {keyring}\n"
        )


@dataclass(frozen=True)
class BasePlan:
    """A base image to build.

    Attributes:
        suite: Debian suite.
        variant: one of ``VARIANTS``.
        packages: what is asked for, the kernel included; apt adds what these depend on.
        sources: apt's sources, of the build and of the image.
        tag: the image's name in local storage.
        architecture: Debian's name of it, which is also the OCI's.
    """

    suite: str
    variant: str
    packages: tuple[str, ...]
    sources: tuple[Source, ...]
    tag: str
    architecture: str = "amd64"


def default_tag(suite: str, architecture: str = "amd64") -> str:
    """The name of a base image when the user gives none."""
    suffix = "" if architecture == "amd64" else f"-{architecture}"
    return f"localhost/bootc-build/debian:{suite}{suffix}"


def plan_base(
    suite: str,
    variant: str,
    archive: Archive,
    *,
    packages: Sequence[str] = (),
    tag: str | None = None,
    architecture: str = "amd64",
) -> BasePlan:
    """Decide what a base image consists of.

    Args:
        suite: one of ``SUITES``.
        variant: one of ``VARIANTS``.
        archive: where packages come from.
        packages: wanted in addition.
        tag: the image's name; that of ``default_tag`` without one.
        architecture: one of ``ARCHITECTURES``.

    Raises:
        UsageError: an unknown suite, variant or architecture, or a package name that cannot be one.
    """
    check_suite(suite)
    if variant not in _VARIANTS:
        raise UsageError(f"Unknown variant '{variant}'.", f"Known: {', '.join(VARIANTS)}.")
    if architecture not in ARCHITECTURES:
        raise UsageError(
            f"Unknown architecture '{architecture}'.", f"Known: {', '.join(ARCHITECTURES)}."
        )
    for name in packages:
        if not name or not set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.+-:"):
            raise UsageError(
                f"'{name}' cannot be a package name.", "Give one package with each --package."
            )
    kernel, further = _VARIANTS[variant]
    has_updates = SUITES[suite]
    sources = [Source(archive.uri, (suite, f"{suite}-updates") if has_updates else (suite,))]
    if has_updates and archive.security_uri is not None:
        sources.append(Source(archive.security_uri, (f"{suite}-security",)))
    boot = (*_BOOT, *ARCHITECTURES[architecture], f"{kernel}-{architecture}")
    wanted = dict.fromkeys((*boot, *_AGENT, *_SYSTEM, *further, *packages))
    tag = tag or default_tag(suite, architecture)
    return BasePlan(suite, variant, tuple(wanted), tuple(sources), tag, architecture)


def check_suite(suite: str) -> None:
    """Refuse a suite that is not known.

    Raises:
        UsageError: it is not in ``SUITES``.
    """
    if suite not in SUITES:
        raise UsageError(f"Unknown suite '{suite}'.", f"Known: {', '.join(SUITES)}.")
