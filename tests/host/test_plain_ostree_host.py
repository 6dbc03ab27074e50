"""A host that ostree deployed from a branch, and one file, bootc.pyz: switched to an image, then upgraded."""

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from bootc_build.image.pyz import write_pyz
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import plain
from bootc_build.onhost.host.origin import Origin
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.ostree.sysroot import create_sysroot
from tests.host.invented_os import make_tree, write_image
from tests.host.pretend_boot import CHECKOUT, MENU_GENERATOR, PretendHost

BRANCH = "debian/plain"


def commit_branch(repo: Repo, tree: Path) -> str:
    command = [
        *("ostree", "commit", f"--repo={repo.path.resolve()}", f"--branch={BRANCH}"),
        *("--owner-uid=0", "--owner-gid=0", f"--tree=dir={tree}"),
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PretendHost:
    """Deployed from a branch; GRUB's menu is a link into the boot entries' directory."""
    monkeypatch.setenv("OSTREE_SYSROOT_DEBUG", "mutable-deployments")
    make_tree(tmp_path / "tree", version="0")
    path = tmp_path / "sysroot"
    path.mkdir()
    sysroot = create_sysroot(path, {("sysroot", "bootloader"): "none"})
    commit = commit_branch(sysroot.repo, tmp_path / "tree")
    sysroot.init_stateroot("default")
    origin = Origin({"origin": {"refspec": BRANCH}}).serialise()
    sysroot.deploy(stateroot="default", commit=commit, origin=origin, kargs=("root=UUID=r", "rw"))
    generator = str(CHECKOUT / MENU_GENERATOR)
    subprocess.run([generator, "-o", str(path / "boot/loader/grub.cfg")], check=True)
    (path / "boot/grub").mkdir()
    (path / "boot/grub/grub.cfg").symlink_to("../loader/grub.cfg")
    sysroot.configure_repo({("sysroot", "bootloader"): "grub2"})
    host = PretendHost(path, tmp_path / "scratch")
    write_pyz(host.scratch / "tmp/bootc.pyz")
    return host


def without_agent(tree: Path) -> None:
    (tree / "usr/bin/bootc").unlink()


def publish(host: PretendHost, version: str, *, agent: bool = True) -> None:
    spoil = (lambda _tree: None) if agent else without_agent
    write_image(host.scratch / "tmp/image", host.scratch, version=version, spoil=spoil)


def run_pyz(host: PretendHost, *arguments: str) -> tuple[int, str]:
    # Not the checkout: the file has to be enough.
    command = ["env", "-u", "PYTHONPATH", "/usr/bin/python3", "/tmp/bootc.pyz", *arguments]
    done = host.execute(*command)
    return done.status, done.stdout + done.stderr


def switch(host: PretendHost, *options: str) -> tuple[int, str]:
    command = ("switch", "--no-signature-verification", "--transport=oci", *options)
    return run_pyz(host, *command, "/tmp/image:image")


def refs(host: PretendHost) -> list[str]:
    command = ["ostree", "refs", f"--repo={host.sysroot}/ostree/repo"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_one_file_switches_the_host_to_an_image_and_upgrades_follow(host: PretendHost) -> None:
    status, said = run_pyz(host, "status", "--format=humanreadable")
    assert (status, "Traceback" in said) == (0, False)
    publish(host, "1")
    status, said = switch(host)
    assert status == 0, said
    assert "Queued for next boot: oci:/tmp/image:image" in said
    host.reboot()
    assert host.status()["booted"]["image"]["version"] == "1"
    assert host.status()["rollback"]["image"] is None
    assert BRANCH not in refs(host)
    publish(host, "2")
    host.bootc("upgrade")
    host.reboot()
    assert host.status()["booted"]["image"]["version"] == "2"
    host.bootc("rollback")
    host.reboot()
    assert host.status()["booted"]["image"]["version"] == "1"


def test_retained_branch_keeps_its_ref_through_upgrades(host: PretendHost) -> None:
    publish(host, "1")
    assert switch(host, "--retain")[0] == 0
    host.reboot()
    publish(host, "2")
    host.bootc("upgrade")
    host.reboot()
    assert BRANCH in refs(host)
    fsck = ["ostree", "fsck", "--quiet", f"--repo={host.sysroot}/ostree/repo"]
    subprocess.run(fsck, check=True)


def test_refused_image_leaves_the_branch(host: PretendHost) -> None:
    write_image(
        host.scratch / "tmp/image",
        host.scratch,
        version="1",
        spoil=lambda tree: (tree / "etc/mine").mkdir(),
    )
    (host.root / "etc/mine").write_text("mine")
    status, said = switch(host)
    assert status == 1
    assert "/etc/mine was changed here" in said
    assert BRANCH in refs(host)


def test_rollback_leads_back_to_the_branch(host: PretendHost) -> None:
    publish(host, "1")
    assert switch(host)[0] == 0
    host.reboot()
    host.bootc("rollback")
    host.reboot()
    assert (host.root / "usr/lib/version").read_text() == "0"


def test_menu_that_does_not_follow_the_deployments_is_refused(host: PretendHost) -> None:
    menu = host.sysroot / "boot/grub/grub.cfg"
    menu.unlink()
    menu.write_text("menuentry old {}\n")
    publish(host, "1")
    status, said = switch(host)
    assert status == 1
    assert "/boot/grub/grub.cfg is not a link into /boot/loader" in said
    assert host.status()["staged"] is None


def test_image_without_an_agent_is_refused(host: PretendHost) -> None:
    publish(host, "1", agent=False)
    status, said = switch(host)
    assert status == 1
    assert "no /usr/bin/bootc" in said
    assert host.status()["staged"] is None


def test_image_that_cannot_write_the_menu_is_refused(host: PretendHost) -> None:
    def without_menu(tree: Path) -> None:
        (tree / "usr/libexec/bootc/grub-menu").unlink()

    write_image(host.scratch / "tmp/image", host.scratch, version="1", spoil=without_menu)
    status, said = switch(host)
    assert status == 1
    assert "nothing to write its menu with" in said


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    (tmp_path / "boot/loader.1").mkdir(parents=True)
    (tmp_path / "boot/loader").symlink_to("loader.1")
    (tmp_path / "boot/loader.1/grub.cfg").touch()
    return tmp_path / "boot"


def test_host_whose_boot_loader_reads_the_entries_itself_needs_no_menu(boot: Path) -> None:
    facts = plain.read_boot_facts({("sysroot", "bootloader"): "none"}, boot, boot)
    plain.check_host(facts)
    assert not facts.uses_grub


def test_kernel_paths_have_to_be_true_for_grub(boot: Path) -> None:
    (boot / "grub").mkdir()
    (boot / "grub/grub.cfg").symlink_to("../loader/grub.cfg")
    settings = {("sysroot", "bootprefix"): "true"}
    facts = plain.read_boot_facts(settings, boot, Path("/proc"))
    assert facts.uses_grub
    with pytest.raises(UserError, match="Boot entries name kernels as /boot/"):
        plain.check_host(facts)
    (boot / "boot").symlink_to(".")
    plain.check_host(plain.read_boot_facts(settings, boot, Path("/proc")))


def test_pyz_has_the_same_bytes_whenever_it_is_made(tmp_path: Path) -> None:
    write_pyz(tmp_path / "one.pyz")
    os.utime(CHECKOUT / "bootc_build/onhost/errors.py")
    write_pyz(tmp_path / "two.pyz")
    assert (tmp_path / "one.pyz").read_bytes() == (tmp_path / "two.pyz").read_bytes()
    names = zipfile.ZipFile(tmp_path / "one.pyz").namelist()
    assert not [name for name in names if "/onhost/" not in name and name.count("/") > 1]
