import pytest

from bootc_build.config.disk import (
    DiskConfiguration,
    ExtraFileSystem,
    Root,
    Subvolume,
    Swap,
    VolumeGroup,
)
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import GIB
from tests.config.blueprints import custom, parse


def test_filesystems_are_partitions_and_minimum_sizes() -> None:
    found = parse(
        """
        [[customizations.filesystem]]
        mountpoint = "/"
        minsize = "10 GiB"
        [[customizations.filesystem]]
        mountpoint = "/boot"
        size = 2147483648
        [[customizations.filesystem]]
        mountpoint = "/var/data"
        minsize = "20 GiB"
        """
    )
    assert found.root.minimum_size == 10 * GIB
    assert found.boot.minimum_size == 2 * GIB
    assert found.filesystems == (ExtraFileSystem(mountpoint="/var/data", size=20 * GIB),)


def test_subvolumes_of_a_btrfs_partition_are_those_of_the_root() -> None:
    found = parse(
        """
        [[customizations.disk.partitions]]
        type = "btrfs"
        minsize = "10 GiB"
        subvolumes = [{name = "root", mountpoint = "/"}, {name = "home", mountpoint = "/home"}]
        """
    )
    assert found.root == Root(
        filesystem="btrfs",
        minimum_size=10 * GIB,
        subvolumes=(
            Subvolume(name="root", mountpoint="/"),
            Subvolume(name="home", mountpoint="/home"),
        ),
    )


def test_logical_volumes_are_for_the_root_swap_and_file_systems() -> None:
    found = parse(
        """
        [[customizations.disk.partitions]]
        type = "lvm"
        name = "vg"
        minsize = "20 GiB"
        [[customizations.disk.partitions.logical_volumes]]
        name = "system"
        minsize = "8 GiB"
        mountpoint = "/"
        fs_type = "xfs"
        label = "sys"
        [[customizations.disk.partitions.logical_volumes]]
        minsize = "2 GiB"
        mountpoint = "/var/lib/data"
        fs_type = "ext4"
        [[customizations.disk.partitions.logical_volumes]]
        minsize = "1 GiB"
        fs_type = "swap"
        """
    )
    assert found == DiskConfiguration(
        volume_group=VolumeGroup(name="vg", minimum_size=20 * GIB),
        root=Root(filesystem="xfs", label="sys", minimum_size=8 * GIB, volume="system"),
        swap=Swap(size=GIB, volume="swaplv"),
        filesystems=(
            ExtraFileSystem(
                mountpoint="/var/lib/data",
                size=2 * GIB,
                filesystem="ext4",
                volume="var_lib_datalv",
            ),
        ),
    )


@pytest.mark.parametrize(("mode", "extra"), [("lvm", ""), ("lvm", "/var"), ("auto-lvm", "/var")])
def test_partitioning_modes_with_volumes(mode: str, extra: str) -> None:
    text = f"[customizations]\npartitioning_mode = '{mode}'\n"
    if extra:
        text += f"[[customizations.filesystem]]\nmountpoint = '{extra}'\nminsize = '1 GiB'\n"
    found = parse(text)
    assert found.volume_group == VolumeGroup(name="rootvg")
    assert found.root.volume == "rootlv"
    assert [each.volume for each in found.filesystems] == (["varlv"] if extra else [])


def test_default_is_the_mode_that_there_is_without_one() -> None:
    assert parse("[customizations]\npartitioning_mode = 'default'\n") == DiskConfiguration()


def test_auto_lvm_makes_no_volumes_for_the_root_alone() -> None:
    assert parse("[customizations]\npartitioning_mode = 'auto-lvm'\n") == DiskConfiguration()


def partition(text: str) -> str:
    return f"[[customizations.disk.partitions]]\n{text}"


# What is written, and the words that the error has.
REFUSED = {
    "two sizes": (
        "[[customizations.filesystem]]\nmountpoint = '/'\nminsize = 1\nsize = 1",
        "'customizations.filesystem[0].minsize' is missing, or there beside 'size'",
    ),
    "sectors": (custom("disk.sector_size = 4096"), "'customizations.disk.sector_size' is 4096"),
    "mode beside a table": (
        custom("partitioning_mode = 'lvm'\n")
        + partition("mountpoint = '/var'\nfs_type = 'ext4'\nminsize = 1"),
        "'customizations.partitioning_mode' is there beside 'customizations.disk'",
    ),
    "partition without a size": (
        partition("mountpoint = '/var/a'\nfs_type = 'ext4'"),
        "'customizations.disk.partitions[0].minsize' is missing",
    ),
    "label of a volume group": (
        partition(
            "type = 'lvm'\nlabel = 'a'\n"
            "logical_volumes = [{minsize = 1, mountpoint = '/', fs_type = 'ext4'}]"
        ),
        "'customizations.disk.partitions[0].label' does not belong to a volume group",
    ),
    "type of a volume group": (
        partition(
            "type = 'lvm'\npart_type = 'e6d6d379-f507-44c2-a23c-238f2a3df928'\n"
            "logical_volumes = [{minsize = 1, mountpoint = '/', fs_type = 'ext4'}]"
        ),
        "'customizations.disk.partitions[0].part_type' cannot be honoured",
    ),
    "file system of a volume": (
        partition("type = 'lvm'\nlogical_volumes = [{minsize = 1, mountpoint = '/'}]"),
        "'customizations.disk.partitions[0].logical_volumes[0].fs_type' is missing",
    ),
    "label of a btrfs partition": (
        partition(
            "type = 'btrfs'\nminsize = 1\nlabel = 'a'\nsubvolumes = [{name = 'a', mountpoint = '/'}]"
        ),
        "'customizations.disk.partitions[0].label' does not belong to a btrfs partition",
    ),
    "name of a btrfs partition": (
        partition(
            "type = 'btrfs'\nminsize = 1\npart_label = 'a'\n"
            "subvolumes = [{name = 'a', mountpoint = '/'}]"
        ),
        "'customizations.disk.partitions[0].part_label' cannot be honoured",
    ),
    "btrfs partition without a size": (
        partition("type = 'btrfs'\nsubvolumes = [{name = 'a', mountpoint = '/'}]"),
        "'customizations.disk.partitions[0].minsize' is missing",
    ),
    "swap that is mounted": (
        partition("fs_type = 'swap'\nminsize = 1\nmountpoint = '/var/a'"),
        "'customizations.disk.partitions[0].mountpoint' is there for a swap partition",
    ),
    "file system that is nowhere": (
        partition("fs_type = 'ext4'\nminsize = 1"),
        "'customizations.disk.partitions[0].mountpoint' is missing",
    ),
    "id of the root's partition": (
        partition("mountpoint = '/'\nfs_type = 'ext4'\nminsize = 1\npart_uuid = 'x'"),
        "'customizations.disk.partitions[0].part_uuid' cannot be honoured",
    ),
    "label of /boot": (
        partition("mountpoint = '/boot'\nfs_type = 'ext4'\nminsize = 1\nlabel = 'boot'"),
        "'customizations.disk.partitions[0].label' cannot be honoured",
    ),
    "mode of partitions": (
        custom("partitioning_mode = 'zfs'"),
        "'customizations.partitioning_mode' is zfs",
    ),
    "volume twice": (
        partition(
            "type = 'lvm'\nlogical_volumes = ["
            "{name = 'a', minsize = 1, mountpoint = '/', fs_type = 'ext4'},"
            "{name = 'a', minsize = 1, mountpoint = '/var', fs_type = 'ext4'}]"
        ),
        (
            "'customizations.disk.partitions[0].logical_volumes[1].name' is a, as "
            "'customizations.disk.partitions[0].logical_volumes[0].name' is"
        ),
    ),
    "volume that LVM wants": (
        partition(
            "type = 'lvm'\nlogical_volumes = ["
            "{name = 'snapshot', minsize = 1, mountpoint = '/', fs_type = 'ext4'}]"
        ),
        "'customizations.disk.partitions[0].logical_volumes[0].name' is snapshot, which LVM keeps",
    ),
    "volumes of one name by their mount points": (
        custom("partitioning_mode = 'lvm'\n")
        + "[[customizations.filesystem]]\nmountpoint = '/var/a/b'\nminsize = 1\n"
        + "[[customizations.filesystem]]\nmountpoint = '/var/a_b'\nminsize = 1\n",
        "'customizations.filesystem[1].mountpoint' is var_a_blv, as",
    ),
    "swap twice": (
        2 * partition("fs_type = 'swap'\nminsize = 1\n"),
        (
            "'customizations.disk.partitions[1].fs_type' is swap, as "
            "'customizations.disk.partitions[0].fs_type' is"
        ),
    ),
    "swap on a volume too": (
        partition("fs_type = 'swap'\nminsize = 1\n")
        + partition("type = 'lvm'\nlogical_volumes = [{minsize = 1, fs_type = 'swap'}]"),
        "'customizations.disk.partitions[1].logical_volumes[0].fs_type' is swap, as",
    ),
    "root twice": (
        partition("mountpoint = '/'\nfs_type = 'ext4'\nminsize = 1\n")
        + partition("type = 'btrfs'\nminsize = 1\nsubvolumes = [{name = 'a', mountpoint = '/'}]"),
        "'customizations.disk.partitions[1].subvolumes[0].mountpoint' is /, as",
    ),
    "EFI system partition twice": (
        2 * partition("mountpoint = '/boot/efi'\nfs_type = 'vfat'\nminsize = 1\n"),
        "'customizations.disk.partitions[1].mountpoint' is /boot/efi, as",
    ),
    "label of the root": (
        partition("mountpoint = '/var/a'\nfs_type = 'ext4'\nminsize = 1\nlabel = 'root'"),
        "'customizations.disk.partitions[0].label' is root, as",
    ),
    "name of a partition that is too long": (
        partition(
            f"mountpoint = '/var/a'\nfs_type = 'ext4'\nminsize = 1\npart_label = '{'x' * 37}'"
        ),
        "'customizations.disk.partitions[0].part_label' is xxx",
    ),
    "id of a partition that is none": (
        partition("mountpoint = '/var/a'\nfs_type = 'ext4'\nminsize = 1\npart_uuid = 'x'"),
        "'customizations.disk.partitions[0].part_uuid' is \"x\"",
    ),
    "size that no disk has": (
        partition("mountpoint = '/'\nfs_type = 'ext4'\nminsize = '8388608 TiB'"),
        "'customizations.disk.partitions[0].minsize' is \"8388608 TiB\": no disk is that large",
    ),
    "size": (partition("minsize = 'much'"), "'customizations.disk.partitions[0].minsize'"),
    "no volumes": (
        partition("type = 'lvm'\nname = 'vg'\nminsize = '1 GiB'"),
        "'customizations.disk.partitions[0].logical_volumes' is missing",
    ),
    "/boot on a volume": (
        partition(
            "type = 'lvm'\nlogical_volumes = [{minsize = '1 GiB', mountpoint = '/boot', fs_type = 'ext4'}]"
        ),
        "'customizations.disk.partitions[0].logical_volumes[0].mountpoint' is /boot, which",
    ),
    "volume without a size": (
        partition("type = 'lvm'\nlogical_volumes = [{mountpoint = '/', fs_type = 'ext4'}]"),
        "'customizations.disk.partitions[0].logical_volumes[0].minsize' is missing",
    ),
    "two volume groups": (
        2
        * partition(
            "type = 'lvm'\nlogical_volumes = [{minsize = 1, mountpoint = '/', fs_type = 'ext4'}]\n"
        ),
        "'customizations.disk.partitions[1].type' is lvm for a second time",
    ),
    "volume of a plain partition": (
        partition("minsize = 1\nmountpoint = '/var'\nfs_type = 'ext4'\nname = 'vg'"),
        "'customizations.disk.partitions[0].name' does not belong to a plain partition",
    ),
    "btrfs without a root": (
        partition(
            "type = 'btrfs'\nminsize = 1\nsubvolumes = [{name = 'a', mountpoint = '/var/a'}]"
        ),
        "'customizations.disk.partitions[0].subvolumes' has none that is mounted at /",
    ),
    "subvolume twice": (
        partition(
            "type = 'btrfs'\nminsize = 1\n"
            "subvolumes = [{name = 'a', mountpoint = '/'}, {name = 'a', mountpoint = '/var'}]"
        ),
        "'customizations.disk.partitions[0].subvolumes[1].name' is a, as",
    ),
    "name of a subvolume": (
        partition("type = 'btrfs'\nminsize = 1\nsubvolumes = [{name = 'a/b', mountpoint = '/'}]"),
        "'customizations.disk.partitions[0].subvolumes[0].name' is \"a/b\"",
    ),
    "partition of no type": (
        partition("type = 'raid'\nminsize = '1 GiB'"),
        "'customizations.disk.partitions[0].type' is raid",
    ),
    "table of another kind": (custom("disk.type = 'dos'"), "'customizations.disk.type' is dos"),
    "file system of /boot": (
        partition("minsize = '1 GiB'\nmountpoint = '/boot'\nfs_type = 'xfs'"),
        "'customizations.disk.partitions[0].fs_type' is xfs",
    ),
    "no file system": (
        partition("minsize = '1 GiB'\nmountpoint = '/var/x'"),
        "'customizations.disk.partitions[0].fs_type' is missing",
    ),
    "mount point twice": (
        2 * "[[customizations.filesystem]]\nmountpoint = '/'\nminsize = 1\n",
        "'customizations.filesystem[1].mountpoint' is /, as",
    ),
    "both kinds of layout": (
        "[[customizations.filesystem]]\nmountpoint = '/'\nminsize = 1\n"
        + partition("mountpoint = '/var'\nfs_type = 'ext4'\nminsize = 1"),
        "'customizations.filesystem' is there beside 'customizations.disk'",
    ),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_a_layout_that_cannot_be_made_is_refused_by_file_and_key_path(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert str(refused.value).startswith("config.toml")
    assert said in str(refused.value)
