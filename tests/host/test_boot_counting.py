"""What the menu says of counting; what GRUB makes of it is shown by `test_vms/test_boot_menu.py`."""

import os
import re
from pathlib import Path

import pytest

from bootc_build.onhost.host.boot_count import parse_block
from test_vms.menu_disk import MenuTree, deployment

NEW, GOOD, OLD = deployment("b"), deployment("a"), deployment("c", 1)
UNIT = "usr/lib/systemd/system/bootc-boot-complete.service"


@pytest.fixture
def tree(tmp_path: Path) -> MenuTree:
    return MenuTree(tmp_path)


def root_of(tree: MenuTree, name: str) -> Path:
    return tree.root / "ostree/deploy/default/deploy" / name


def test_the_first_entry_is_counted_by_the_name_of_its_deployment(tree: MenuTree) -> None:
    menu = tree.write([NEW, GOOD])
    assert f"if [ \"$bootc_counted\" != '{NEW}' ]; then" in menu
    assert "set bootc_left=3\n" in menu
    assert menu.count("save_env --file ($root)/boot/bootc.env bootc_counted bootc_left") == 1
    assert menu.count("$bootc_trial\n") == 1
    assert menu.count("$bootc_fellback\n") == 1


def test_the_good_deployment_is_what_is_fallen_back_to_wherever_it_stands(tree: MenuTree) -> None:
    menu = tree.write([NEW, OLD, GOOD])
    assert "set fallback=1\n" in menu
    assert f"if [ \"$bootc_good\" = '{OLD}' ]; then set fallback=1; fi\n" in menu
    assert f"if [ \"$bootc_good\" = '{GOOD}' ]; then set fallback=2; fi\n" in menu


def test_a_single_deployment_is_not_counted(tree: MenuTree) -> None:
    menu = tree.write([NEW])
    assert "save_env" not in menu
    assert "fallback" not in menu


def test_a_deployment_that_would_not_end_the_count_is_not_counted(tree: MenuTree) -> None:
    tree.write([NEW, GOOD])
    (root_of(tree, NEW) / UNIT).unlink()
    (root_of(tree, NEW) / "etc").mkdir()
    menu = tree.write([NEW, GOOD], deploy=False)
    assert "save_env" not in menu
    # Where its kernel cannot be loaded, another one boots nevertheless.
    assert "set fallback=1\n" in menu


def test_a_deployment_whose_unit_is_masked_is_not_counted(tree: MenuTree) -> None:
    tree.write([NEW, GOOD])
    masked = root_of(tree, NEW) / "etc/systemd/system/bootc-boot-complete.service"
    masked.parent.mkdir(parents=True)
    masked.symlink_to("/dev/null")
    assert "save_env" not in tree.write([NEW, GOOD])


@pytest.mark.parametrize("kind", ["btrfs", "zfs", "f2fs", "UNKNOWN (0x1)"])
def test_where_grub_cannot_write_nothing_is_counted_and_unloadable_kernels_are_passed_over(
    tree: MenuTree, kind: str
) -> None:
    tree.pretend_file_system(f"'{kind}'")
    menu = tree.write([NEW, OLD, GOOD])
    # Neither a count, which would never end, nor a trial, which would restart for ever.
    for word in ("save_env", "bootc_trial", "bootc.trial", "bootc.fellback=tries", "rd.shell=0"):
        assert word not in menu
    assert "set default=0\n" in menu
    assert "set fallback=1\n" in menu
    assert f"if [ \"$bootc_good\" = '{GOOD}' ]; then set fallback=2; fi\n" in menu
    # What boots instead is told: the first entry says so before its kernel is loaded, the others pass it on.
    first, *others = menu.split("\nmenuentry ")[1:]
    assert "\tset bootc_fellback='bootc.fellback=kernel'\n\tlinux " in first
    assert "$bootc_fellback" not in first
    assert all(re.search(r"\tlinux .* \$bootc_fellback\n", other) for other in others)


@pytest.mark.parametrize("kind", ["ext2/ext3", "xfs", "msdos"])
def test_where_grub_can_write_boots_are_counted(tree: MenuTree, kind: str) -> None:
    tree.pretend_file_system(kind)
    assert "save_env" in tree.write([NEW, GOOD])


@pytest.mark.parametrize(
    ("fact", "uuid", "counted"),
    [
        ("block/8:1/dm/uuid", "LVM-x", True),  # of another device
        ("{device}/md/level", "", False),
        ("md/level", "", False),  # where the device is a partition
        ("{device}/dm/uuid", "LVM-0123", False),
        ("{device}/dm/uuid", "CRYPT-LUKS2-0123", False),
        ("{device}/dm/uuid", "part1-mpath-0123", True),
    ],
)
def test_where_grub_only_reads_the_device_nothing_is_counted(
    tree: MenuTree, fact: str, uuid: str, *, counted: bool
) -> None:
    number = (tree.root / "boot").stat().st_dev
    name = f"{os.major(number)}:{os.minor(number)}"
    device = tree.root / "sys/devices/block/disk/part"
    device.mkdir(parents=True)
    numbers = tree.root / "sys/dev/block"
    numbers.mkdir(parents=True)
    (numbers / name).symlink_to(device)
    told = device.parent / fact.format(device=device)
    told.parent.mkdir(parents=True)
    told.write_text(f"{uuid}\n")
    tree.pretend_file_system("ext2/ext3")
    assert ("save_env" in tree.write([NEW, GOOD])) == counted


@pytest.mark.parametrize(
    ("settings", "tries"),
    [
        ("tries=5\n", "5"),
        ("# tries=5\n", "3"),
        (" tries = 1 # few\n", "1"),
        ("tries=many\n", "3"),
        ("tries=10", "3"),
    ],
)
def test_the_number_of_tries_is_configured(tree: MenuTree, settings: str, tries: str) -> None:
    assert f"set bootc_left={tries}\n" in tree.write([NEW, GOOD], settings=settings)


def test_no_tries_count_nothing(tree: MenuTree) -> None:
    assert "save_env" not in tree.write([NEW, GOOD], settings="tries=0\n")


def test_the_kernel_is_told_to_reboot_unless_it_is_told_otherwise(tree: MenuTree) -> None:
    menu = tree.write([NEW, GOOD])
    assert '"bootc.trial=$bootc_left panic=10 rd.shell=0 rd.emergency=reboot"' in menu
    menu = tree.write([NEW, GOOD], options="panic=0 rd.break")
    assert '"bootc.trial=$bootc_left"' in menu


def test_the_file_for_the_count_is_made_once_and_kept(tree: MenuTree) -> None:
    tree.write([NEW, GOOD])
    block = tree.root / "boot/bootc.env"
    assert block.stat().st_size == 1024
    assert parse_block(block.read_text()) == {}
    inode = block.stat().st_ino
    content = "# GRUB Environment Block\nbootc_left=2\n".ljust(1024, "#")
    block.write_text(content)
    tree.write([GOOD, NEW])
    assert block.stat().st_ino == inode
    assert block.read_text() == content
    # GRUB's own tool reads it.
    assert sorted(path.name for path in (tree.root / "boot").iterdir()) == [
        "bootc.env", "grub", "loader", "ostree",
    ]  # fmt: skip


def test_an_entry_of_another_system_is_never_counted(tree: MenuTree) -> None:
    tree.write([NEW, GOOD])
    entry = tree.root / "boot/loader/entries/ostree-2.conf"
    entry.write_text(entry.read_text().replace("ostree=/ostree/boot.1/default/x/0", "quiet"))
    assert "save_env" not in tree.generate()
