"""A disk of a plain ostree host: deployed from a branch, with a boot menu of its own, without any agent."""

import shutil
import subprocess
from pathlib import Path

from bootc_build.disk import trees
from bootc_build.disk.assemble import write_raw_disk
from bootc_build.disk.identity import Identity
from bootc_build.disk.plan import plan_disk
from bootc_build.onhost.host.origin import Origin
from bootc_build.onhost.install import bootloader
from bootc_build.onhost.progress import Silent
from bootc_build.tools.buildah import working_container
from bootc_build.tools.sizes import GIB

BRANCH = "debian/plain"
_MENU = "usr/lib/plain-host/menu"
_OURS = "usr/libexec/bootc/grub-menu"


def make_disk(image: str, folder: Path) -> Path:
    """Turn an image's files into a plain ostree host, and that into a raw disk in ``folder``.

    Args:
        image: a bootable image of local storage, for its packages and kernel.
        folder: an empty one.
    """
    tree, sysroot = folder / "tree", folder / "sysroot"
    sysroot.mkdir()
    with working_container(image) as container:
        subprocess.run(["cp", "-a", f"{container.mount()}/.", tree], check=True)
        _forget_the_agent(tree)
        identity = Identity.derive(image, {"plain": True})
        _deploy(tree, sysroot, identity)
        boot = sysroot / "boot"
        bootloader.install(
            ("bios",), boot=boot, boot_uuid=str(identity.boot_uuid), image_root=Path("/")
        )
        bootloader.link_boot_to_itself(boot)
        subprocess.run([tree / _MENU, "-o", boot / "loader/grub.cfg"], check=True)
    shutil.rmtree(tree)
    installed = trees.split(sysroot)
    settled = trees.settle(installed, 1)
    plan = plan_disk(identity, settled.contents, timestamp=1, size=10 * GIB)
    disk = folder / "disk.raw"
    write_raw_disk(plan, settled, disk, Silent())
    # The others are gone: they are written first, and their space is wanted.
    shutil.rmtree(installed.root)
    return disk


def _forget_the_agent(tree: Path) -> None:
    """Leave nothing of ours but a menu generator, which every ostree host with GRUB needs; in another place."""
    (tree / _MENU).parent.mkdir(parents=True)
    (tree / _OURS).rename(tree / _MENU)
    for directory in ("usr/libexec/bootc", "usr/lib/bootc"):
        shutil.rmtree(tree / directory)
    (tree / "usr/bin/bootc").unlink()
    settings = [
        *tree.glob("usr/lib/systemd/**/10-bootc.conf"),
        *tree.glob("usr/lib/environment.d/*"),
    ]
    for file in settings:
        file.write_text(file.read_text().replace(f"/{_OURS}", f"/{_MENU}"))
    (tree / "etc").rename(tree / "usr/etc")


def _deploy(tree: Path, path: Path, identity: Identity) -> None:
    from bootc_build.onhost.ostree.sysroot import create_sysroot  # noqa: PLC0415 - libostree takes time

    settings = {("sysroot", "bootloader"): "none", ("sysroot", "bootprefix"): "true"}
    sysroot = create_sysroot(path, settings)
    sysroot.repo.disable_fsync()
    repo = f"--repo={path / 'ostree/repo'}"
    command = [
        "ostree",
        "commit",
        repo,
        "--fsync=false",
        f"--branch={BRANCH}",
        f"--tree=dir={tree}",
    ]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    sysroot.init_stateroot("debian")
    sysroot.deploy(
        stateroot="debian",
        commit=commit,
        origin=Origin({"origin": {"refspec": BRANCH}}).serialise(),
        kargs=(f"root=UUID={identity.root_uuid}", "rw", "console=tty0", "console=ttyS0,115200n8"),
    )
    settings = {("sysroot", "bootloader"): "grub2", ("sysroot", "readonly"): "true"}
    sysroot.configure_repo(settings)
    deployment = path / sysroot.deployments()[0].path
    (deployment / "etc/fstab").write_text(f"UUID={identity.boot_uuid} /boot ext4 defaults 0 2\n")
