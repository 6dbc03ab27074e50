"""Install an image into a root directory: repository, deployment, boot entries, boot loader.

Runs inside the image that it installs (its libostree, its GRUB), needs root, and neither systemd nor a
mount nor a device: the target may be a scratch tree that becomes file systems later.
"""

import configparser
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bootc_build.onhost import process, pull
from bootc_build.onhost.bound import storage
from bootc_build.onhost.bound.spec import bound_images
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import kargs
from bootc_build.onhost.host.kernel import check_etc, check_kernel
from bootc_build.onhost.host.origin import Origin
from bootc_build.onhost.image_tree import RootTree
from bootc_build.onhost.install import bootloader, firmware, layers, request, takeover
from bootc_build.onhost.install.request import InstallRequest
from bootc_build.onhost.oci.manifest import ANNOTATION_CREATED
from bootc_build.onhost.progress import Progress

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.repo import Repo

_ALEPH: Final = ".bootc-aleph.json"
# What may be in an "empty" root: a fresh file system's own, and mount points of /boot and the ESP.
_TOLERATED: Final = frozenset({"lost+found", "boot", "efi"})
MENU_GENERATOR: Final = "/usr/libexec/bootc/grub-menu"
_PREPARE_ROOT: Final = ("usr/etc/ostree/prepare-root.conf", "usr/lib/ostree/prepare-root.conf")


def check_target(root: Path, *, imported_layers: bool = False) -> None:
    """Make sure that a target can be installed into.

    Args:
        root: the target.
        imported_layers: a folder of those may be there.

    Raises:
        UserError: it is not a directory, or something is in it.
    """
    if not root.is_dir():
        raise UserError(f"The target {root} is not a directory.", "Mount or make it first.")
    pending = [root]
    while pending:
        for entry in sorted(pending.pop().iterdir()):
            if imported_layers and entry == root / layers.FOLDER:
                continue
            if entry.name not in _TOLERATED or not entry.is_dir():
                raise UserError(
                    f"The target {root} is not empty: {entry} is there.",
                    "Install into an empty directory or a fresh file system, "
                    "or lose what is there with --replace=wipe.",
                )
            if entry.name != "lost+found":
                pending.append(entry)


def check_request(wanted: InstallRequest) -> None:
    """Make sure, before the target is touched, that what is asked for can be done.

    Raises:
        UserError: the image cannot be had, is no system for this machine, or lacks its boot loader.
        UsageError: the stateroot or what is mounted at /boot cannot be named so.
    """
    request.check_stateroot(wanted.stateroot)
    if wanted.boot_mount_spec:
        request.fstab("", wanted.boot_mount_spec)
    bootloader.check(wanted.bootloaders)
    pull.check_bootable(wanted.source, pull.probe(wanted.source).config)


def install_to_filesystem(wanted: InstallRequest, progress: Progress) -> None:
    """Install; see `InstallRequest`, which `check_request` was asked about.

    The target is known to be free, or somebody else's system is kept.

    Raises:
        UserError: the image cannot be fetched or is not bootable, libostree failed.
    """
    if os.geteuid() != 0:
        raise UserError("Installing needs root.", "Run the command as root or with sudo.")
    os.umask(0o022)
    if not wanted.finalize:
        # Read by libostree when a sysroot is opened. An immutable flag could neither be copied by
        # mke2fs nor removed with the scratch tree; and a scratch tree need not survive a power cut.
        os.environ["OSTREE_SYSROOT_DEBUG"] = "mutable-deployments"
        os.environ["OSTREE_SYSROOT_OPTS"] = "skip-sync"
    deployment_root, pulled, selinux = _deploy(wanted, progress)
    _configure(wanted, deployment_root)
    _bring_bound_images(wanted, deployment_root, progress)
    boot = wanted.root_path / "boot"
    if wanted.bootloaders:
        _first_menu(deployment_root, boot)
    if wanted.alongside:
        progress.step("Replacing the boot loader of the old system")
        takeover.replace_boot(wanted, boot)
    elif wanted.bootloaders:
        progress.step("Installing the boot loader")
        lay_down_boot_loader(wanted, boot)
        mounted = os.path.ismount(boot / "efi")
        for disk in wanted.disks:
            firmware.write(disk, boot, esp_is_mounted=mounted)
    _write_aleph(wanted, pulled, selinux)


def lay_down_boot_loader(wanted: InstallRequest, boot: Path) -> None:
    """Write the boot loader's files to a directory that is, or becomes, /boot.

    Raises:
        UserError: the image lacks its parts.
    """
    separate = wanted.boot_mount_spec is not None
    prefix = "" if separate else "/boot"
    uuid = wanted.boot_uuid
    bootloader.install(
        wanted.bootloaders,
        boot=boot,
        boot_uuid=uuid,
        prefix=prefix,
        modules=wanted.grub_modules,
    )
    if separate:
        bootloader.link_boot_to_itself(boot)


def _deploy(wanted: InstallRequest, progress: Progress) -> tuple[Path, pull.PulledImage, str]:
    # libostree is loaded late: `bootc --help` and wrong arguments should not have to wait for it.
    from bootc_build.onhost.ostree import sysroot as ostree_sysroot  # noqa: PLC0415
    from bootc_build.onhost.ostree.files import CommitTree  # noqa: PLC0415

    progress.step("Making an empty sysroot")
    sysroot = ostree_sysroot.create_sysroot(
        wanted.root_path,
        {
            # The first menu is written by hand, after the boot loader is there.
            ("sysroot", "bootloader"): "none",
            ("sysroot", "bootprefix"): "true",
        },
    )
    repo = sysroot.repo
    if not wanted.finalize:
        repo.disable_fsync()
    if wanted.imported_layers:
        layers.take_over(wanted.root_path, repo)
    pulled = pull.pull(
        repo,
        wanted.source,
        progress=progress,
        install=not wanted.finalize,
        target=wanted.target,
    )
    check_kernel(repo, pulled.merge_commit)
    check_etc(repo, pulled.merge_commit)
    progress.step("Deploying")
    image_kargs = kargs.kargs_of(CommitTree(repo, pulled.merge_commit))
    sysroot.init_stateroot(wanted.stateroot)
    arguments = request.kernel_arguments(wanted, image_kargs)
    deployment = sysroot.deploy(
        stateroot=wanted.stateroot,
        commit=pulled.merge_commit,
        origin=Origin.of_image(wanted.target.to_origin()).serialise(),
        kargs=arguments,
    )
    settings = {
        # Without a boot loader of ours, whatever there is reads the boot entries by itself.
        ("sysroot", "bootloader"): "grub2" if wanted.bootloaders else "none",
        ("sysroot", "readonly"): _readonly(repo, pulled.merge_commit),
    }
    append = wanted.configuration.bls_append_except_default
    if append is not None:
        settings["sysroot", "bls-append-except-default"] = append
    sysroot.configure_repo(settings)
    selinux = _selinux(repo, pulled.merge_commit, arguments)
    return wanted.root_path / deployment.path, pulled, selinux


def _selinux(repo: "Repo", commit: str, arguments: kargs.Arguments) -> str:
    """Whether the installed system has SELinux, in upstream's words."""
    from bootc_build.onhost.ostree.objects import ObjectStore  # noqa: PLC0415
    from bootc_build.onhost.ostree.selinux import policy_labels  # noqa: PLC0415

    store = ObjectStore(repo)
    with policy_labels(store, store.root_of(commit)[0]) as labels:
        if labels is None:
            return "disabled"
    return "force-target-disabled" if "selinux=0" in arguments else "enabled"


def _readonly(repo: "Repo", commit: str) -> str:
    """Whether /sysroot is mounted read-only at boot: as the image says, which by default it is."""
    from bootc_build.onhost.ostree.files import read_text_file  # noqa: PLC0415

    for path in _PREPARE_ROOT:
        text = read_text_file(repo, commit, path)
        if text is not None:
            parser = configparser.ConfigParser(interpolation=None, strict=False)
            parser.read_string(text)
            return str(parser.getboolean("sysroot", "readonly", fallback=True)).lower()
    return "true"


def _bring_bound_images(wanted: InstallRequest, deployment_root: Path, progress: Progress) -> None:
    if wanted.bound_images == "skip":
        return
    images = bound_images(RootTree(deployment_root))
    storage.check_podman(images)
    if wanted.bound_images == "pull":
        storage.pull(wanted.root_path, images, progress)
    else:
        storage.copy_stored(wanted.root_path, images, progress)


def _configure(wanted: InstallRequest, deployment_root: Path) -> None:
    etc = deployment_root / "etc"
    if wanted.boot_mount_spec:
        table = etc / "fstab"
        existing = table.read_text() if table.is_file() else ""
        _replace(table, request.fstab(existing, wanted.boot_mount_spec, wanted.boot_type))
    if wanted.root_ssh_authorized_keys is not None:
        (etc / "tmpfiles.d").mkdir(exist_ok=True)
        _replace(
            etc / "tmpfiles.d/bootc-root-ssh.conf",
            request.root_ssh_tmpfiles(wanted.root_ssh_authorized_keys),
        )


def _replace(path: Path, text: str) -> None:
    # By rename: the old file may be a hard link into the repository.
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.chmod(0o644)
    new.replace(path)


def _first_menu(deployment_root: Path, boot: Path) -> None:
    generator = deployment_root / MENU_GENERATOR.lstrip("/")
    if not generator.exists():
        raise UserError(
            f"The image lacks {MENU_GENERATOR}, which writes the boot menu.",
            "Build it on a base image of bootc-build base.",
        )
    process.run([str(generator), "-o", str(boot / "loader/grub.cfg")])


def _write_aleph(wanted: InstallRequest, pulled: pull.PulledImage, selinux: str) -> None:
    record: dict[str, object] = {
        "image": wanted.source.name,
        "digest": pulled.manifest_digest,
        "target-image": wanted.target.to_origin(),
        "labels": dict(sorted(pulled.config.labels.items())),
        "version": pulled.config.version,
        "timestamp": pulled.config.labels.get(ANNOTATION_CREATED),
        "kernel": platform.release(),
        "selinux": selinux,
    }
    if not wanted.finalize:
        # The name of a scratch copy would say nothing to the installed system, and the builder's
        # kernel is no property of what it built: the same image gives the same disk.
        del record["image"]
        record["kernel"] = ""
    _replace(wanted.root_path / _ALEPH, json.dumps(record, indent=2) + "\n")
