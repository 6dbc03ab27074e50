"""A typed, thin view of an ostree sysroot: its deployments and the ways to change them.

``Deployment`` records are snapshots; they name their native object by position, so they are valid until
the next change or `Sysroot.reload`.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import gi

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.ostree import origin_files
from bootc_build.onhost.ostree.deployment import Deployment, Overlay
from bootc_build.onhost.ostree.mounts import enter_private_mounts
from bootc_build.onhost.ostree.repo import Repo

gi.require_version("OSTree", "1.0")
from gi.repository import Gio, GLib, OSTree  # noqa: E402 - the version has to be chosen first

# libostree runs this instead of the distribution's grub-mkconfig, which knows nothing of deployments.
GRUB_MENU_GENERATOR: Final = "/usr/libexec/bootc/grub-menu"
_BOOTED_STAMP: Final = Path("/run/ostree-booted")


def is_booted_host() -> bool:
    """Whether this process runs on a system that was booted through ostree."""
    return _BOOTED_STAMP.exists()


class Sysroot:
    """An open sysroot. Make it with `open_system` or `open_sysroot`."""

    def __init__(self, native: OSTree.Sysroot) -> None:
        self._native = native

    @property
    def path(self) -> Path:
        """The sysroot's directory."""
        return Path(self._native.get_path().get_path() or "/")

    @property
    def repo(self) -> Repo:
        """The repository inside."""
        return Repo(self._native.repo())

    def reload(self) -> None:
        """Read the deployments again."""
        with _ostree_errors("The deployments cannot be read", self.path):
            self._native.load(None)

    def deployments(self) -> tuple[Deployment, ...]:
        """All deployments in boot order, a staged one first."""
        return tuple(self._record(native) for native in self._native.get_deployments())

    def booted(self) -> Deployment | None:
        """The deployment that runs now."""
        return next((each for each in self.deployments() if each.booted), None)

    def staged(self) -> Deployment | None:
        """The deployment that becomes real at shutdown."""
        return next((each for each in self.deployments() if each.staged), None)

    def merge_deployment(self, stateroot: str) -> Deployment | None:
        """The deployment whose /etc and kernel arguments a new one of this stateroot takes over."""
        native = self._native.get_merge_deployment(stateroot)
        return None if native is None else self._record(native)

    @contextmanager
    def locked(self, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the writers' lock; deployments are read again once it is held.

        Args:
            on_wait: called when somebody else holds it, before waiting.
        """
        with _ostree_errors("The lock of the sysroot cannot be taken"):
            if not self._native.try_lock()[1]:
                on_wait()
                self._wait_for_lock()
        try:
            self.reload()
            yield
        finally:
            self._native.unlock()

    def _wait_for_lock(self) -> None:
        # The wait is inside libostree, where Python's handler would not run; nothing is begun that an
        # abrupt end could leave half done.
        handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        for each in handlers:
            signal.signal(each, signal.SIG_DFL)
        try:
            self._native.lock()
        finally:
            for each, handler in handlers.items():
                signal.signal(each, handler)

    def stage(
        self,
        *,
        stateroot: str,
        commit: str,
        origin: str,
        merge: Deployment,
        kargs: Sequence[str],
        hold: bool = False,
    ) -> Deployment:
        """Queue a commit for the next boot of the running system; /etc is merged at shutdown.

        Args:
            stateroot: group that it belongs to.
            commit: what to deploy.
            origin: text of its origin file.
            merge: deployment that /etc comes from.
            kargs: the complete kernel command line.
            hold: keep it from becoming real until `change_hold`.

        Raises:
            UserError: libostree cannot (no space, /boot full, not booted, …).
        """
        if hold:
            self.check_can_hold()  # known to be there before anything is queued
        with _ostree_errors("The new deployment cannot be staged"):
            self._native.stage_tree(
                stateroot, commit, _key_file(origin), self._native_of(merge), list(kargs), None
            )
        self.reload()
        staged = self.staged()
        assert staged is not None  # noqa: S101 - libostree has just staged it
        if hold:
            self.change_hold(staged)
            self.reload()
            staged = self.staged()
            assert staged is not None  # noqa: S101 - likewise
        return staged

    def check_can_hold(self) -> None:
        """Make sure that a deployment can be held back.

        Raises:
            UserError: this libostree cannot.
        """
        self._change_finalization()

    def change_hold(self, staged: Deployment) -> None:
        """Flip whether a staged deployment becomes real at shutdown.

        Raises:
            UserError: this libostree cannot.
        """
        change = self._change_finalization()
        with _ostree_errors("The staged deployment cannot be changed"):
            change(self._native_of(staged))
        # libostree reads anew only when this directory's time is another, and here it does not change it.
        os.utime(self.path / "ostree/deploy")
        self.reload()

    def _change_finalization(self) -> Callable[[OSTree.Deployment], object]:
        # Since libostree 2023.8, later than the type information.
        change: Callable[[OSTree.Deployment], object] | None = getattr(
            self._native, "change_finalization", None
        )
        if change is None:
            raise UserError(
                "This system's libostree cannot hold a staged deployment back.",
                "Upgrade without --download-only.",
            )
        return change

    def deploy(
        self, *, stateroot: str, commit: str, origin: str, kargs: Sequence[str]
    ) -> Deployment:
        """Write a first deployment into a sysroot that is not running, and make it the default.

        Raises:
            UserError: libostree cannot.
        """
        with _ostree_errors("The system cannot be deployed"):
            native = self._native.deploy_tree(
                stateroot, commit, _key_file(origin), None, list(kargs), None
            )[1]
            self._native.simple_write_deployment(
                stateroot, native, None, OSTree.SysrootSimpleWriteDeploymentFlags.NONE, None
            )
        self.reload()
        return self.deployments()[0]

    def write_order(self, order: Sequence[Deployment]) -> None:
        """Make this the boot order, first one next; what is not in it (a staged one) is dropped.

        Raises:
            UserError: libostree cannot.
        """
        with _ostree_errors("The boot order cannot be written"):
            self._native.write_deployments([self._native_of(each) for each in order], None)
        self.reload()

    def set_pinned(self, deployment: Deployment, *, pinned: bool) -> None:
        """Keep a deployment from being collected, or no longer.

        Raises:
            UserError: libostree cannot; a staged one is no deployment yet.
        """
        with _ostree_errors("The deployment cannot be pinned or unpinned"):
            self._native.deployment_set_pinned(self._native_of(deployment), pinned)
        self.reload()

    def rewrite_origin(self, deployment: Deployment, origin: str) -> None:
        """Replace the origin file of an existing deployment.

        Raises:
            UserError: libostree cannot.
        """
        with _ostree_errors("The origin cannot be written"):
            self._native.write_origin_file(self._native_of(deployment), _key_file(origin), None)
        self.reload()

    def forget_branch(self, refspec: str) -> None:
        """Remove the ref of an ostree branch (``remote:branch`` or ``branch``), so that it is collected.

        Raises:
            UserError: it is malformed or cannot be removed.
        """
        with _ostree_errors(f"The branch '{refspec}' cannot be forgotten"):
            _ok, remote, branch = OSTree.parse_refspec(refspec)
            self._native.repo().set_ref_immediate(remote, branch, None, None)

    def init_stateroot(self, name: str) -> None:
        """Make a stateroot, unless it is there."""
        if not (self.path / "ostree/deploy" / name).is_dir():
            with _ostree_errors(f"The stateroot '{name}' cannot be made"):
                self._native.init_osname(name, None)

    def repo_settings(self, group: str) -> dict[tuple[str, str], str]:
        """What the repository's configuration file says in a group: (group, key) to value."""
        configuration = self._native.repo().copy_config()
        if not configuration.has_group(group):
            return {}
        keys = configuration.get_keys(group)[0]
        return {(group, key): configuration.get_string(group, key) for key in keys}

    def configure_repo(self, values: Mapping[tuple[str, str], str]) -> None:
        """Set values in the repository's configuration file: (group, key) to value.

        Raises:
            UserError: it cannot be written.
        """
        repo = self._native.repo()
        configuration = repo.copy_config()
        for (group, key), value in values.items():
            configuration.set_string(group, key, value)
        with _ostree_errors("The repository's configuration cannot be written"):
            repo.write_config(configuration)
            repo.reload_config(None)

    def cleanup(self) -> None:
        """Remove what no deployment needs any more: old roots, kernels, then unreachable objects.

        Raises:
            UserError: libostree cannot.
        """
        with _ostree_errors("What is no longer needed cannot be removed"):
            self._native.cleanup(None)

    def _record(self, native: OSTree.Deployment) -> Deployment:
        origin = native.get_origin()
        configuration = native.get_bootconfig()
        running = self._native.get_booted_deployment()
        # Since libostree 2023.8, later than the type information.
        is_locked = getattr(native, "is_finalization_locked", lambda: False)
        unlocked = OSTree.Deployment.unlocked_state_to_string(native.get_unlocked())
        return Deployment(
            index=native.get_index(),
            stateroot=native.get_osname(),
            checksum=native.get_csum(),
            serial=native.get_deployserial(),
            origin="" if origin is None else origin.to_data()[0],
            options="" if configuration is None else configuration.get("options") or "",
            booted=running is not None and native.equal(running),
            staged=native.is_staged(),
            locked=native.is_staged() and bool(is_locked()),
            pinned=native.is_pinned(),
            overlay=next((each for each in Overlay if each.value == unlocked), Overlay.NONE),
            path=self._native.get_deployment_dirpath(native),
        )

    def _native_of(self, deployment: Deployment) -> OSTree.Deployment:
        for native in self._native.get_deployments():
            if (
                native.get_osname() == deployment.stateroot
                and native.get_csum() == deployment.checksum
                and native.get_deployserial() == deployment.serial
            ):
                return native
        raise UserError(
            f"Deployment {deployment.checksum[:12]}.{deployment.serial} is gone.",
            "Somebody else changed the deployments; run the command again.",
        )


@contextmanager
def _ostree_errors(what: str, reading: Path | None = None) -> Iterator[None]:
    """Turn libostree's errors into ours; ``reading`` is the sysroot whose files it may not understand."""
    # libostree tells people what it freed and swapped on standard output, which is for the verb's answer.
    sys.stdout.flush()
    standard_output = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    except GLib.Error as error:
        remedy = "" if reading is None else origin_files.remedy(reading)
        raise UserError(f"{what}: {error.message}", remedy) from error
    finally:
        os.dup2(standard_output, 1)
        os.close(standard_output)


def _key_file(text: str) -> GLib.KeyFile:
    parsed = GLib.KeyFile.new()
    parsed.load_from_data(text, len(text.encode()), GLib.KeyFileFlags.NONE)
    return parsed


def use_own_boot_menu() -> None:
    """Have libostree write the boot menu with our generator, in this process, where it is installed."""
    if Path(GRUB_MENU_GENERATOR).exists():
        os.environ["OSTREE_GRUB2_EXEC"] = GRUB_MENU_GENERATOR
        os.environ["OSTREE_DEBUG_GRUB2"] = "1"  # or its errors are thrown away


def open_system(*, writing: bool) -> Sysroot:
    """The running system's sysroot.

    Args:
        writing: enter a private mount namespace, in which libostree can make /sysroot and /boot
            writable; it has to happen before any thread starts.

    Raises:
        UserError: it cannot be read.
    """
    use_own_boot_menu()
    native = OSTree.Sysroot.new_default()
    with _ostree_errors("The system's deployments cannot be read", Path("/")):
        if writing and is_booted_host():
            # Not by initialize_with_mount_namespace(): it opens the repository before it leaves the old
            # namespace, where /sysroot stays read-only.
            enter_private_mounts()
            native.set_mount_namespace_in_use()
        native.load(None)
    return Sysroot(native)


def open_sysroot(path: Path) -> Sysroot:
    """A sysroot that is not running, for example the target of an installation.

    Raises:
        UserError: there is none.
    """
    native = OSTree.Sysroot.new(Gio.File.new_for_path(os.fspath(path)))
    with _ostree_errors(f"{path} is not a sysroot that can be opened", path):
        native.load(None)
    return Sysroot(native)


def create_sysroot(path: Path, repo_configuration: Mapping[tuple[str, str], str]) -> Sysroot:
    """Lay an empty sysroot out as the root directory of a disk: repository, deployments, /boot.

    Args:
        path: an existing directory, the physical root to be.
        repo_configuration: (group, key) to value, for the repository's configuration.

    Raises:
        UserError: it cannot be made.
    """
    (path / "boot").mkdir(mode=0o755, exist_ok=True)
    native = OSTree.Sysroot.new(Gio.File.new_for_path(os.fspath(path)))
    with _ostree_errors(f"No sysroot can be made in {path}"):
        native.ensure_initialized(None)
        native.load(None)
    sysroot = Sysroot(native)
    sysroot.configure_repo(repo_configuration)
    return sysroot
