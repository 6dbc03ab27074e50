import pytest

from bootc_build.config.disk import DiskConfiguration, File
from bootc_build.config.disk_yaml import disk_configuration
from bootc_build.config.document import parse_document
from bootc_build.config.record import ConfigurationError
from bootc_build.disk.settings.accounts import ImageAccounts, plan_accounts
from bootc_build.disk.settings.system import system_files
from bootc_build.onhost.errors import UsageError


def parse(text: str) -> DiskConfiguration:
    return disk_configuration(parse_document(text, ".yaml", "disk.yaml"), "disk.yaml")


SUBVOLUME_AND_FILE_SYSTEM = """
root: {subvolumes: [{name: a, mountpoint: /}, {name: b, mountpoint: /var/b}]}
filesystems: [{mountpoint: /var/b, size: 1G}]
"""

# What is written, and the words that the error has.
WRONG = {
    "mount point of the image": (
        "filesystems: [{mountpoint: /usr, size: 1G}]",
        ("'filesystems[0].mountpoint' is /usr, which is the image's", "Allowed: /var"),
    ),
    "mount point below the image": (
        "filesystems: [{mountpoint: /etc/ssh, size: 1G}]",
        ("/etc/ssh, which is the image's",),
    ),
    "mount point of the kernel": (
        "filesystems: [{mountpoint: /run/x, size: 1G}]",
        ("'filesystems[0].mountpoint'", "Use /var"),
    ),
    "root as extra": (
        "filesystems: [{mountpoint: /, size: 1G}]",
        ("which every disk has", "Say it below 'root'"),
    ),
    "boot as extra": (
        "filesystems: [{mountpoint: /boot, size: 1G}]",
        ("which every disk has", "Say it below 'boot'"),
    ),
    "same mount point twice": (
        "filesystems: [{mountpoint: /var/a, size: 1G}, {mountpoint: /var/a, size: 1G}]",
        ("'filesystems[1].mountpoint' is /var/a, as 'filesystems[0].mountpoint' is",),
    ),
    "subvolumes without a root": (
        "root: {filesystem: btrfs, subvolumes: [{name: a, mountpoint: /var/a}]}",
        ("'root.subvolumes' has none that is mounted at /",),
    ),
    "two subvolumes at /": (
        "root: {subvolumes: [{name: a, mountpoint: /}, {name: b, mountpoint: /}]}",
        ("'root.subvolumes[1].mountpoint' is /, as 'root.subvolumes[0].mountpoint' is",),
    ),
    "subvolume where a file system is": (
        SUBVOLUME_AND_FILE_SYSTEM,
        ("'filesystems[0].mountpoint' is /var/b, as 'root.subvolumes[1].mountpoint' is",),
    ),
    "size and minimum": ("size: 9G\nminimum-size: 8G", ("'minimum-size' is there beside 'size'",)),
    "size and minimum of root": (
        "root: {size: 9G, minimum-size: 8G}",
        ("'root.minimum-size' is there beside 'root.size'",),
    ),
    "user twice": (
        "users: [{name: a}, {name: a}]",
        ("'users[1].name' is a, as 'users[0].name' is",),
    ),
    "uid twice": (
        "users: [{name: a, uid: 1000}, {name: b, uid: 1000}]",
        ("'users[1].uid' is 1000, as 'users[0].uid' is",),
    ),
    "volume without a group": (
        "root: {volume: a}",
        ("'root.volume' is there without 'volume-group'",),
    ),
    "group without a volume": ("volume-group: {name: vg}", ("'volume-group' has no volume",)),
    "volume twice": (
        "volume-group: {name: vg}\nroot: {volume: a}\nswap: {size: 1G, volume: a}",
        ("'swap.volume' is a, as 'root.volume' is",),
    ),
    "volume in the partition table": (
        """
        volume-group: {name: vg}
        filesystems: [{mountpoint: /var/b, size: 1G, volume: b, partition-label: b}]
        """,
        ("'filesystems[0].partition-label' is there beside 'volume'",),
    ),
    "name that LVM wants": (
        "volume-group: {name: vg}\nroot: {volume: pvmove0}",
        ("'root.volume' is pvmove0, which LVM keeps for itself",),
    ),
    "two passwords": (
        "users: [{name: a, password: b, password-hash: $6$x$y}]",
        ("'users[0].password' is there beside 'password-hash'",),
    ),
    "file of the image": (
        "files: [{path: /usr/bin/x}]",
        ("'files[0].path' is /usr/bin/x, which is the image's", "Allowed: below /etc, /var"),
    ),
    "volume like LVM's snapshots": (
        "volume-group: {name: vg}\nroot: {volume: snapshot}",
        ("'root.volume' is snapshot, which LVM keeps for itself",),
    ),
    "group id twice": (
        "groups: [{name: a, gid: 1000}, {name: b, gid: 1000}]",
        ("'groups[1].gid' is 1000, as 'groups[0].gid' is",),
    ),
    "unit enabled and masked": (
        "services: {enabled: [a], masked: [a.service]}",
        ("'services.masked[0]' is a.service, which 'services.enabled[0]' wants to start",),
    ),
    "unit enabled and disabled": (
        "services: {enabled: [a.timer], disabled: [b, a.timer]}",
        ("'services.disabled[1]' is a.timer, which 'services.enabled[0]' wants to start",),
    ),
    "name of the machine twice": (
        "hostname: a\nfiles: [{path: /etc/hostname, content: b}]",
        ("'files[0].path' is /etc/hostname, which 'hostname' is written to",),
    ),
    "file over the zone": (
        "timezone: Europe/Berlin\nfiles: [{path: /etc/localtime}]",
        ("'files[0].path' is /etc/localtime, which 'timezone' is written to",),
    ),
    "file over the mounts": (
        "files: [{path: /etc/fstab}]",
        ("'files[0].path' is /etc/fstab, which is made from other keys", "'filesystems'"),
    ),
    "file over the accounts": (
        "files: [{path: /etc/shadow}]",
        ("'files[0].path' is /etc/shadow, which is made from other keys", "Say 'users'"),
    ),
    "directory over the accounts": (
        "directories: [{path: /etc/passwd}]",
        ("'directories[0].path' is /etc/passwd, which is made from other keys",),
    ),
    "file over a password": (
        "users: [{name: a, password: b}]\nfiles: [{path: /etc/credstore/passwd.hashed-password.a}]",
        ("'files[0].path' is /etc/credstore/passwd.hashed-password.a, which is made from",),
    ),
    "directory below a file": (
        "files: [{path: /etc/a}]\ndirectories: [{path: /etc/a/b}]",
        ("'directories[0].path' is /etc/a/b, which is below a file: 'files[0].path' is /etc/a",),
    ),
    "file as a directory": (
        "files: [{path: /etc/a}]\ndirectories: [{path: /etc/a}]",
        ("'directories[0].path' is /etc/a, as 'files[0].path' is",),
    ),
    "id of a partition twice": (
        """
        filesystems:
        - {mountpoint: /var/a, size: 1G, partition-uuid: 0194fdc2-fa2f-4cc0-81d3-ff12045b73c8}
        - {mountpoint: /var/b, size: 1G, partition-uuid: 0194FDC2FA2F4CC081D3FF12045B73C8}
        """,
        ("'filesystems[1].partition-uuid' is 0194", "as 'filesystems[0].partition-uuid' is"),
    ),
    "label of the root": (
        "filesystems: [{mountpoint: /var/a, size: 1G, label: root}]",
        ("'filesystems[0].label' is root, as 'root.label' is",),
    ),
    "label of swap": (
        "swap: {size: 1G}\nfilesystems: [{mountpoint: /var/a, size: 1G, label: swap}]",
        ("'filesystems[0].label' is swap, as 'swap.label' is",),
    ),
    "label of /boot": (
        "root: {label: boot}",
        ("'root.label' is boot, which a file system that every disk has is called",),
    ),
    "label twice": (
        "filesystems: [{mountpoint: /var/a, size: 1G, label: x}, {mountpoint: /var/b, size: 1G, label: x}]",
        ("'filesystems[1].label' is x, as 'filesystems[0].label' is",),
    ),
    "name of the root's partition": (
        "root: {label: system}\nfilesystems: [{mountpoint: /var/a, size: 1G, label: root}]",
        ("'filesystems[0].label' is root, which a partition that the disk has anyway is called",),
    ),
    "name of a partition twice": (
        """
        filesystems:
        - {mountpoint: /var/a, size: 1G, partition-label: x}
        - {mountpoint: /var/b, size: 1G, partition-label: x}
        """,
        ("'filesystems[1].partition-label' is x, as 'filesystems[0].partition-label' is",),
    ),
    "name of a partition that is too long": (
        f"filesystems: [{{mountpoint: /var/a, size: 1G, partition-label: {'𝄞' * 19}}}]",
        ("'filesystems[0].partition-label' is 𝄞", "at most 36 UTF-16 code units"),
    ),
    "label that no partition can have": (
        f"filesystems: [{{mountpoint: /var/a, size: 1G, filesystem: btrfs, label: {'x' * 37}}}]",
        ("'filesystems[0].label' is xxx", "at most 36 UTF-16 code units"),
    ),
    "more partitions than a table has": (
        "filesystems:\n" + "".join(f"- {{mountpoint: /var/{n}, size: 1G}}\n" for n in range(125)),
        ("'filesystems' makes 129 partitions", "128 entries", "put them on volumes"),
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_what_contradicts_itself_or_the_image_is_refused(text: str, said: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert str(refused.value).startswith("disk.yaml")
    for words in said:
        assert words in str(refused.value)


def test_as_many_partitions_as_a_table_has_are_taken() -> None:
    rows = "".join(f"- {{mountpoint: /var/{n}, size: 1G}}\n" for n in range(124))
    assert len(parse(f"filesystems:\n{rows}").filesystems) == 124


def test_files_that_are_made_from_other_keys_are_known_by_their_paths() -> None:
    """What the settings are written to, told by the two modules that write it."""
    wanted = parse(
        """
        hostname: a
        locale: C.UTF-8
        keyboard: de
        ntp-servers: [time.example]
        sshd: {root-login: 'no'}
        users: [{name: a, password-hash: $6$x$y, ssh-keys: [ssh-ed25519 AAAA]}]
        """
    )
    accounts = plan_accounts(wanted, ImageAccounts({}, {}), {"a": "$6$x$y"})
    paths = {each.path for each in (*accounts.files, *system_files(wanted))}
    assert len(paths) == 9
    files = wanted.model_copy(update={"files": tuple(File(path=path) for path in sorted(paths))})
    document = files.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    with pytest.raises(ConfigurationError) as refused:
        disk_configuration(document, "disk.yaml")
    assert len(refused.value.problems) == len(paths)
