"""Every lint, and how all of them are run over one root."""

from collections.abc import Collection
from dataclasses import dataclass

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.lint import boot, content, layout, state, users
from bootc_build.onhost.lint.model import Finding, Level, Lint, RootKind
from bootc_build.onhost.lint.root import Root

_FATAL, _WARNING = Level.FATAL, Level.WARNING

# Names and levels are upstream bootc's where upstream has the lint; the others are marked "ours".
LINTS: tuple[Lint, ...] = (
    Lint(
        "api-base-directories",
        _FATAL,
        "/dev, /proc, /run, /sys, /tmp and /var exist as directories.",
        layout.api_base_directories,
    ),
    Lint(
        "baseimage-composefs",
        _WARNING,
        "composefs is enabled where libostree has it, and only there.",
        boot.baseimage_composefs,
    ),
    Lint(
        "baseimage-root",
        _FATAL,
        "/sysroot is a directory and /ostree links to sysroot/ostree.",
        layout.baseimage_root,
    ),
    # ours
    Lint("bootc-binary", _FATAL, "The image carries bootc itself.", layout.bootc_binary),
    Lint("bootc-kargs", _FATAL, "The files in /usr/lib/bootc/kargs.d are right.", boot.bootc_kargs),
    # ours
    Lint(
        "bound-images",
        _FATAL,
        "What /usr/lib/bootc/bound-images.d links to can be fetched with the image.",
        boot.bound_links,
    ),
    Lint(
        "buildah-injected",
        _WARNING,
        "/etc/hostname and /etc/resolv.conf are not leftovers of a container build.",
        state.buildah_injected,
        RootKind.ALTERNATIVE,
    ),
    # ours
    Lint(
        "dropped-hardlink",
        _FATAL,
        "No file is a hard link to one that the import drops.",
        content.dropped_hardlink,
    ),
    Lint(
        "etc-usretc",
        _FATAL,
        "Configuration is in the directory /etc, not in /usr/etc.",
        layout.etc_usretc,
    ),
    # ours
    Lint("initramfs", _FATAL, "The kernel has its initramfs beside it.", boot.initramfs),
    Lint("kernel", _FATAL, "There is exactly one kernel, below /usr/lib/modules.", boot.kernel),
    # ours
    Lint("machine-id", _WARNING, "/etc/machine-id is empty.", state.machine_id),
    Lint("nonempty-boot", _WARNING, "/boot is there and empty.", boot.nonempty_boot),
    Lint("nonempty-run-tmp", _WARNING, "/run and /tmp are empty.", state.nonempty_run_tmp),
    # ours
    Lint(
        "special-files",
        _FATAL,
        "There are no devices, FIFOs or sockets.",
        content.special_files,
    ),
    # ours
    Lint("ssh-host-keys", _WARNING, "There are no SSH host keys.", state.ssh_host_keys),
    Lint(
        "sysusers",
        _WARNING,
        "Every user and group of /etc has its sysusers.d line.",
        users.sysusers,
    ),
    # ours
    Lint(
        "toplevel",
        _WARNING,
        "No directory of one's own at the top has content: it would be read-only.",
        layout.toplevel,
    ),
    Lint("utf8", _FATAL, "File names and link targets are UTF-8.", content.utf8),
    Lint("var-log", _WARNING, "There are no logs in /var/log.", state.var_log),
    Lint("var-run", _FATAL, "/var/run is a symbolic link.", layout.var_run),
    Lint(
        "var-tmpfiles",
        _WARNING,
        "What is in /var is made by tmpfiles.d too.",
        state.var_tmpfiles,
    ),
)


@dataclass(frozen=True)
class Report:
    """What a run of the lints found.

    Attributes:
        findings: fatal ones first, then by lint.
        passed: names of the lints that found nothing.
        skipped: names of the lints that did not run: on request, or wrong for this kind of root.
    """

    findings: tuple[Finding, ...]
    passed: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def fatal(self) -> tuple[Finding, ...]:
        """The findings that would keep the image from installing, booting or upgrading."""
        return tuple(found for found in self.findings if found.level is Level.FATAL)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The other findings."""
        return tuple(found for found in self.findings if found.level is Level.WARNING)


def check_names(names: Collection[str]) -> None:
    """Refuse names that are no lint's.

    Raises:
        UsageError: with the names that there are.
    """
    known = [lint.name for lint in LINTS]
    for name in names:
        if name not in known:
            raise UsageError(f"There is no lint named '{name}'.", f"There are: {', '.join(known)}.")


def lint_root(
    root: Root, kind: RootKind = RootKind.ALTERNATIVE, skip: Collection[str] = ()
) -> Report:
    """Run every lint over one root; the tree is walked once.

    Raises:
        UsageError: ``skip`` has an unknown name.
        UserError: the root is not a directory.
    """
    check_names(skip)
    if not root.path.is_dir():
        raise UserError(f"'{root.path}' is not a directory.", "Give the directory of a root.")
    findings: list[Finding] = []
    passed: list[str] = []
    skipped: list[str] = []
    for lint in LINTS:
        if lint.name in skip or lint.only not in (None, kind):
            skipped.append(lint.name)
            continue
        found = list(lint.run(root))
        findings += found
        if not found:
            passed.append(lint.name)
    findings.sort(key=lambda found: (found.level is not Level.FATAL, found.lint))
    return Report(tuple(findings), tuple(passed), tuple(skipped))
