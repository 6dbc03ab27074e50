from pathlib import Path

import pytest

from bootc_build.config.disk import DiskConfiguration, ExtraFileSystem
from bootc_build.config.document import parse_document
from bootc_build.config.in_image import image_configuration
from bootc_build.config.partition_table import parse_partition_table
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import GIB, MIB

TABLE = """
.common:
  guids:
    - &esp "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
mount_configuration: units
partition_table:
  type: gpt
  partitions:
    - size: "1 MiB"
      type: "21686148-6449-6e6F-744E-656564454649"
      bootable: true
      uuid: 2866630c-0c7e-469c-bc82-c458e3fd6223
    - size: "200 MiB"
      type: *esp
      payload_type: filesystem
      payload: {type: vfat, mountpoint: /boot/efi, label: ESP, fstab_options: "umask=077", fstab_passno: 2}
    - size: "2 GiB"
      type: "bc13c2ff-59e6-4262-a352-b275fd6f7172"
      payload_type: filesystem
      payload: {type: ext4, mountpoint: /boot, label: boot, fstab_options: defaults, fstab_passno: 2}
    - size: 1_073_741_824
      payload_type: filesystem
      payload: {type: ext4, mountpoint: /var/data, label: data, fstab_options: "nodev,nosuid"}
    - size: "512 MiB"
      payload_type: swap
    - size: "4 GiB"
      type: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
      payload_type: filesystem
      payload: {type: btrfs, mountpoint: /, label: root}
"""


def parse(text: str) -> DiskConfiguration:
    return parse_partition_table(parse_document(text, ".yaml", "disk.yaml"), "disk.yaml")[0]


def test_partitions_become_the_layout() -> None:
    found = parse(TABLE)
    assert (found.esp.minimum_size, found.boot.minimum_size) == (200 * MIB, 2 * GIB)
    root = found.root
    assert (root.filesystem, root.label, root.minimum_size) == ("btrfs", "root", 4 * GIB)
    assert found.swap
    assert found.swap.size == 512 * MIB
    assert found.filesystems == (
        ExtraFileSystem(
            mountpoint="/var/data",
            size=GIB,
            filesystem="ext4",
            label="data",
            options=("nodev", "nosuid"),
            partition_type="0fc63daf-8483-4772-8e79-3d69d8477de4",
        ),
    )


# What is replaced in the table, by what, and the words of the error.
REFUSED = {
    "unknown key": (
        "bootable: true",
        "bootabl_: true",
        "partitions[0].bootabl_' is not a known key",
    ),
    "table": ("type: gpt", "type: dos", "'partition_table.type' is dos"),
    "id of the table": ("type: gpt", "type: gpt\n  uuid: x", "'partition_table.uuid' cannot be"),
    "encryption": ("payload_type: swap", "payload_type: luks", "is luks, which cannot be honoured"),
    "volumes": ("payload_type: swap", "payload_type: lvm", "is lvm, which cannot be honoured"),
    "nothing": ("payload_type: swap", "bootable: false", "partitions[4].payload_type' is ''"),
    "options of /boot": (
        "fstab_options: defaults",
        "fstab_options: noexec",
        "partitions[2].payload.fstab_options' is noexec",
    ),
    "kind of /boot": (
        "{type: ext4, mountpoint: /boot,",
        "{type: xfs, mountpoint: /boot,",
        "is xfs",
    ),
    "type of the root": ("4f68bce3", "44479540", "partitions[5].type' is 44479540"),
    "mounts": ("units", "none", "is none, so nothing mounts /var/data"),
    "mount point": ("/var/data", "/usr/data", "which is the image's"),
    "way of mounts": ("units", "by-hand", "'mount_configuration' is by-hand"),
    "sectors": ("type: gpt", "type: gpt\n  sector_size: 4096", "sector_size' is 4096"),
    "file system that is nowhere": (
        "mountpoint: /var/data, ",
        "",
        "partitions[3].payload.mountpoint' is missing",
    ),
    "swap that is mounted": (
        "payload_type: swap",
        "payload_type: swap\n      payload: {mountpoint: /var/swap}",
        "partitions[4].payload.mountpoint' does not belong to swap",
    ),
    "swap that is checked": (
        "payload_type: swap",
        "payload_type: swap\n      payload: {fstab_passno: 2}",
        "partitions[4].payload.fstab_passno' is 2",
    ),
    "id of the root's partition": (
        'type: "4f68bce3',
        'uuid: 2866630c-0c7e-469c-bc82-c458e3fd6223\n      type: "4f68bce3',
        "partitions[5].uuid' cannot be honoured",
    ),
    "start of a partition": (
        "bootable: true",
        "bootable: true\n      start: 2048",
        "partitions[0].start' cannot be honoured",
    ),
    "name of the BIOS boot partition": (
        "bootable: true",
        "bootable: true\n      label: bios",
        "partitions[0].label' cannot be honoured",
    ),
    "bootable": (
        "payload_type: swap",
        "payload_type: swap\n      bootable: true",
        "partitions[4].bootable' cannot be honoured",
    ),
    "options of swap": (
        "payload_type: swap",
        "payload_type: swap\n      payload: {fstab_options: 'pri=5'}",
        "partitions[4].payload.fstab_options' is pri=5",
    ),
    "id of swap": (
        "payload_type: swap",
        "payload_type: swap\n      uuid: 2866630c-0c7e-469c-bc82-c458e3fd6223",
        "partitions[4].uuid' cannot be honoured",
    ),
    "type of swap": (
        "payload_type: swap",
        "payload_type: swap\n      type: 4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
        "partitions[4].type' is 4f68bce3",
    ),
    "dump": (
        'fstab_options: "nodev,nosuid"',
        "fstab_freq: 1",
        "partitions[3].payload.fstab_freq' is 1",
    ),
    "order of checks": (
        'fstab_options: "nodev,nosuid"',
        "fstab_passno: 1",
        "partitions[3].payload.fstab_passno' is 1.\nAllowed there: 0 or 2",
    ),
    "check that there is not": (
        "mountpoint: /, label: root",
        "mountpoint: /, label: root, fstab_passno: 2",
        "partitions[5].payload.fstab_passno' is 2",
    ),
    "options of mkfs": (
        "mountpoint: /, label: root",
        "mountpoint: /, label: root, mkfs_options: {verity: true}",
        "partitions[5].payload.mkfs_options' cannot be honoured",
    ),
    "label of /boot": ("label: boot", "label: start", "partitions[2].payload.label' is start"),
    "name of the root's partition": (
        'type: "4f68bce3',
        'label: system\n      type: "4f68bce3',
        "partitions[5].label' is system",
    ),
    "swap twice": (
        (
            "- size: 1_073_741_824\n      payload_type: filesystem\n      payload: {type: ext4, "
            'mountpoint: /var/data, label: data, fstab_options: "nodev,nosuid"}'
        ),
        "- size: 1 GiB\n      payload_type: swap",
        "partitions[4].payload_type' is swap, as 'partition_table.partitions[3].payload_type' is",
    ),
    "root twice": (
        "mountpoint: /var/data",
        "mountpoint: /",
        "partitions[5].payload.mountpoint' is /, as",
    ),
    "/boot twice": (
        "mountpoint: /var/data",
        "mountpoint: /boot",
        "payload.mountpoint' is /boot, as",
    ),
    "EFI system partition twice": (
        "mountpoint: /var/data",
        "mountpoint: /boot/efi",
        "payload.mountpoint' is /boot/efi, as",
    ),
    "BIOS boot partition twice": (
        '- size: "512 MiB"\n      payload_type: swap',
        '- size: "1 MiB"\n      type: "21686148-6449-6e6F-744E-656564454649"',
        "partitions[4].type' is that of the BIOS boot partition, as",
    ),
    "label of another": (
        "label: data",
        "label: root",
        "partitions[3].payload.label' is root, as 'partition_table.partitions[5].payload.label' is",
    ),
    "name of a partition that is too long": (
        "- size: 1_073_741_824",
        f"- size: 1 GiB\n      label: {'x' * 37}",
        "partitions[3].label' is xxx",
    ),
    "payload": ("label: data", "lab_el: data", "partitions[3].payload.lab_el' is not a known key"),
}


@pytest.mark.parametrize(("old", "new", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_kept_is_refused(old: str, new: str, said: str) -> None:
    assert old in TABLE
    with pytest.raises(UsageError) as refused:
        parse(TABLE.replace(old, new))
    assert said in str(refused.value)


def test_an_image_may_bring_one_and_not_several(tmp_path: Path) -> None:
    assert image_configuration(tmp_path) is None
    folder = tmp_path / "usr/lib/bootc-image-builder"
    folder.mkdir(parents=True)
    (folder / "disk.yaml").write_text(TABLE)
    found = image_configuration(tmp_path)
    assert found is not None
    assert found[0] == parse(TABLE)
    assert found[1].where == "/usr/lib/bootc-image-builder/disk.yaml of the image"
    (folder / "config.toml").touch()
    with pytest.raises(UsageError, match=r"config\.toml and disk\.yaml in /usr/lib/bootc-image"):
        image_configuration(tmp_path)


def test_what_is_found_wrong_later_is_told_by_the_tables_own_keys() -> None:
    text = """
    partition_table:
      type: gpt
      partitions:
        - {size: 1 GiB, payload_type: filesystem, payload: {type: ext4, mountpoint: /}}
        - {size: 1 GiB, payload_type: filesystem, payload: {type: ext4, mountpoint: /data}}
    """
    _found, source = parse_partition_table(parse_document(text, ".yaml", "disk.yaml"), "disk.yaml")
    key = source.key("filesystems[0].filesystem")
    assert key == "partition_table.partitions[1].payload.type"
