"""The base image as it was really built: layout, users, boot files, and what a derived build needs."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.image.base_tree import PACKAGE_STATE, TOP_LEVEL_LINKS
from bootc_build.image.sysusers import parse_sysusers, read_passwd
from bootc_build.tools.buildah import (
    WorkingContainer,
    image_exists,
    inspect_image,
    working_container,
)

BASE = "localhost/bootc-build-test/base:trixie"

pytestmark = pytest.mark.base_image


@pytest.fixture(scope="module")
def container() -> Iterator[WorkingContainer]:
    if not image_exists(BASE):
        pytest.skip(f"{BASE} is not built; see: bootc-build base")
    with working_container(BASE) as made:
        yield made


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """The tree as it is in the image: no command ran in it."""
    if not image_exists(BASE):
        pytest.skip(f"{BASE} is not built; see: bootc-build base")
    with working_container(BASE) as made:
        yield made.mount()


def kernel(root: Path) -> Path:
    [found] = (root / "usr/lib/modules").iterdir()
    return found


def test_exactly_one_kernel_with_its_initramfs(root: Path) -> None:
    assert (kernel(root) / "vmlinuz").stat().st_size > 5_000_000
    assert (kernel(root) / "initramfs.img").stat().st_size > 5_000_000
    assert list((root / "boot").iterdir()) == []


def test_the_initramfs_prepares_an_ostree_root_and_stays_small(
    root: Path, container: WorkingContainer
) -> None:
    initramfs = kernel(root) / "initramfs.img"
    listing = container.run(["lsinitrd", f"/{initramfs.relative_to(root)}"])
    assert "usr/lib/ostree/ostree-prepare-root" in listing
    assert "usr/lib/ostree/prepare-root.conf" in listing
    built_in = (kernel(root) / "modules.builtin").read_text()
    for driver in ("virtio_blk", "virtio_scsi", "nvme", "ahci", "ext4"):
        assert f"/{driver}.ko" in listing + built_in
    assert initramfs.stat().st_size < 30_000_000


def test_top_level_links_lead_where_a_deployment_keeps_state(root: Path) -> None:
    for name, (target, _) in TOP_LEVEL_LINKS.items():
        assert str((root / name).readlink()) == target
    assert (root / "usr/local").is_dir()
    assert not (root / "usr/local").is_symlink()
    assert (root / "sysroot").is_dir()


def test_the_package_database_lives_in_usr(root: Path) -> None:
    for old, name in PACKAGE_STATE.items():
        assert str((root / old).readlink()).endswith(f"usr/lib/sysimage/{name}")
    assert (root / "usr/lib/sysimage/dpkg/status").stat().st_size > 100_000
    assert (root / "usr/lib/sysimage/apt/extended_states").exists()


def test_every_link_into_the_package_state_is_made_on_old_machines_too(root: Path) -> None:
    text = (root / "usr/lib/tmpfiles.d/bootc-base.conf").read_text()
    made = {line.split()[1] for line in text.splitlines() if line.startswith("L+ ")}
    assert {f"/{old}" for old in PACKAGE_STATE} <= made


def test_all_users_have_fixed_ids_in_sysusers(root: Path) -> None:
    table = parse_sysusers((root / "usr/lib/sysusers.d/00-bootc-base.conf").read_text())
    found = read_passwd(
        (root / "etc/passwd").read_text().splitlines(),
        (root / "etc/group").read_text().splitlines(),
    )
    extra = found.without(table)
    assert (extra.users, extra.groups) == ((), ())
    assert {(u.name, u.uid) for u in found.users} == {(u.name, u.uid) for u in table.users}


def test_documentation_is_left_out_but_not_the_copyright_files(root: Path) -> None:
    doc = root / "usr/share/doc"
    packages = [folder for folder in doc.iterdir() if folder.is_dir()]
    assert len(packages) > 100
    assert {path.name for path in doc.rglob("*") if path.is_file()} == {"copyright"}
    assert list(root.glob("usr/share/man/*/*")) == []


def test_nobody_has_a_password(root: Path) -> None:
    fields = [line.split(":") for line in (root / "etc/shadow").read_text().splitlines()]
    assert {password for _, password, *_ in fields} <= {"*", "!", "!*"}
    assert len({days for _, _, days, *_ in fields}) == 1


@pytest.mark.parametrize(
    "pattern",
    [
        "etc/ssh/ssh_host_*",
        "etc/hostname",
        "etc/resolv.conf",
        "var/lib/systemd/random-seed",
        "var/lib/dbus/machine-id",
        "var/log/*.log",
        "var/cache/apt/archives/*.deb",
        "var/lib/apt/lists/*_*",
        "run/*",
        "tmp/*",
        "dev/*",
    ],
)
def test_nothing_of_the_build_or_of_a_machine_is_in_the_image(root: Path, pattern: str) -> None:
    assert list(root.glob(pattern)) == []


def test_the_machine_id_is_empty(root: Path) -> None:
    assert (root / "etc/machine-id").read_text() == ""


def test_var_holds_directories_and_links_only(root: Path) -> None:
    files = [path for path in (root / "var").rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if "sysimage" not in str(path.resolve())] == []


def test_the_image_says_that_it_is_bootable(container: WorkingContainer) -> None:
    del container  # it skips the test when there is no image
    labels = inspect_image(BASE)["OCIv1"]["config"]["Labels"]
    assert labels["containers.bootc"] == labels["ostree.bootable"] == "1"
    assert labels["org.opencontainers.image.version"].startswith("13.")


def test_services_are_enabled_and_those_that_would_fail_are_not(
    container: WorkingContainer,
) -> None:
    def state(unit: str) -> str:
        return container.run(["sh", "-c", f"systemctl is-enabled {unit} || :"]).strip()

    for unit in (
        "bootc-root-ro.service",
        "ostree-remount.service",
        "systemd-networkd.service",
        "systemd-resolved.service",
        "ssh.service",
        "sshd-keygen.service",
    ):
        assert state(unit) == "enabled", unit
    for unit in ("apt-daily.timer", "e2scrub_reap.service", "grub-common.service"):
        assert state(unit) == "disabled", unit
    assert state("dracut-shutdown.service") == "masked"


def test_boot_entries_are_written_by_our_menu_generator(root: Path) -> None:
    drop_in = root / "usr/lib/systemd/system/ostree-finalize-staged.service.d/10-bootc.conf"
    assert "OSTREE_GRUB2_EXEC=/usr/libexec/bootc/grub-menu" in drop_in.read_text()
    assert os.access(root / "usr/libexec/bootc/grub-menu", os.X_OK)


def test_the_agent_runs(container: WorkingContainer) -> None:
    assert container.run(["bootc", "--version"]).startswith("bootc ")


def test_a_fresh_base_needs_no_refresh(container: WorkingContainer) -> None:
    container.run(["/usr/libexec/bootc/image-refresh", "--check"])


def test_systemd_finds_no_fault_with_our_units(container: WorkingContainer, root: Path) -> None:
    units = sorted((root / "usr/lib/systemd/system").glob("bootc-*.service"))
    assert units
    container.run(["systemd-analyze", "verify", "--man=no", *(unit.name for unit in units)])


def test_packages_can_be_configured_in_a_derived_image(container: WorkingContainer) -> None:
    # A package without dependencies, made here: no network is needed to see dpkg and apt work.
    script = """set -e
mkdir -p /tmp/p/DEBIAN /tmp/p/opt/mine /tmp/p/var/lib/mine
printf 'Package: mine\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@x.test>\\nDescription: x\\n' \
    > /tmp/p/DEBIAN/control
echo hello > /tmp/p/opt/mine/hello
dpkg-deb --build --root-owner-group /tmp/p /tmp/mine.deb > /dev/null
apt-get install --yes /tmp/mine.deb > /dev/null 2>&1
cat /usr/lib/opt/mine/hello
dpkg-query --admindir=/usr/lib/sysimage/dpkg --show mine
"""
    said = container.run(["sh", "-c", script])
    assert said.split() == ["hello", "mine", "1"]


def test_a_python_file_of_the_agent_is_never_checked_again(root: Path) -> None:
    compiled = list((root / "usr/lib/bootc/python").rglob("*.pyc"))
    assert compiled
    for path in compiled:
        assert int.from_bytes(path.read_bytes()[4:8], "little") == 1, path
