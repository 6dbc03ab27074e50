import json
from pathlib import Path
from typing import Any

import pytest

from bootc_build.config.blueprint import parse_blueprint
from bootc_build.config.disk import (
    Directory,
    DiskConfiguration,
    ExtraFileSystem,
    File,
    Group,
    Root,
    Services,
    Sshd,
    Subvolume,
    Swap,
    User,
    VolumeGroup,
)
from bootc_build.config.document import parse_document
from bootc_build.config.load import load_configuration, load_with_origin
from bootc_build.config.record import ConfigurationError
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import GIB


def parse(text: str) -> DiskConfiguration:
    return parse_blueprint(parse_document(text, ".toml", "config.toml"), "config.toml")


EVERYTHING = """
name = "node"

[customizations]
hostname = "node1"

[[customizations.user]]
name = "alice"
description = "Alice A."
password = "$6$salt$hash"
key = '''
ssh-ed25519 AAAA alice@one
# an old one
ssh-ed25519 BBBB alice@two
'''
groups = ["sudo", "ops"]
home = "/var/home/alice"
shell = "/bin/bash"
uid = 1200
gid = 1200

[[customizations.user]]
name = "bob"
password = "secret"

[[customizations.sshkey]]
user = "root"
key = "ssh-ed25519 CCCC root@three"

[[customizations.group]]
name = "ops"
gid = 1500

[customizations.kernel]
append = "mitigations=auto,nosmt quiet"

[customizations.timezone]
timezone = "Europe/Berlin"
ntpservers = ["time.example"]

[customizations.locale]
languages = ["C.UTF-8"]
keyboard = "de"

[customizations.services]
enabled = ["a.service"]
disabled = ["b"]
masked = ["c.timer"]

[customizations.sshd]
password_authentication = false
kbd_interactive_authentication = false
permit_root_login = "no"
client_alive_interval = 300

[[customizations.directories]]
path = "/etc/app/d"
mode = "0750"
user = "root"
group = 27
ensure_parents = true

[[customizations.files]]
path = "/etc/app/d/conf"
data = "x = 1\\n"
mode = "0600"

[customizations.disk]
minsize = "20 GiB"

[[customizations.disk.partitions]]
mountpoint = "/"
label = "sys"
minsize = "8 GiB"
fs_type = "btrfs"

[[customizations.disk.partitions]]
fs_type = "swap"
minsize = "1 GiB"

[[customizations.disk.partitions]]
type = "plain"
mountpoint = "/var/data"
minsize = "2 GiB"
fs_type = "ext4"
label = "data"
part_label = "the-data"
part_uuid = "0194fdc2-fa2f-4cc0-81d3-ff12045b73c8"
"""


def test_everything_that_a_blueprint_says_is_in_the_configuration() -> None:
    assert parse(EVERYTHING) == DiskConfiguration(
        minimum_size=20 * GIB,
        root=Root(filesystem="btrfs", label="sys", minimum_size=8 * GIB),
        swap=Swap(size=GIB),
        filesystems=(
            ExtraFileSystem(
                mountpoint="/var/data",
                size=2 * GIB,
                filesystem="ext4",
                label="data",
                partition_label="the-data",
                partition_uuid="0194fdc2-fa2f-4cc0-81d3-ff12045b73c8",
            ),
        ),
        kernel_arguments=("mitigations=auto,nosmt", "quiet"),
        hostname="node1",
        locale="C.UTF-8",
        keyboard="de",
        timezone="Europe/Berlin",
        ntp_servers=("time.example",),
        users=(
            User(  # noqa: S604 - a login shell
                name="alice",
                description="Alice A.",
                password_hash="$6$salt$hash",  # noqa: S106 - an example
                ssh_keys=("ssh-ed25519 AAAA alice@one", "ssh-ed25519 BBBB alice@two"),
                groups=("sudo", "ops"),
                uid=1200,
                gid=1200,
                home="/var/home/alice",
                shell="/bin/bash",
            ),
            User(name="bob", password="secret"),  # noqa: S106 - an example
            User(name="root", ssh_keys=("ssh-ed25519 CCCC root@three",)),
        ),
        groups=(Group(name="ops", gid=1500),),
        files=(File(path="/etc/app/d/conf", content="x = 1\n", mode="0600"),),
        directories=(Directory(path="/etc/app/d", mode="0750", group="27", parents=True),),
        services=Services(enabled=("a.service",), disabled=("b",), masked=("c.timer",)),
        sshd=Sshd(
            password_authentication=False,
            keyboard_interactive=False,
            root_login="no",
            client_alive_interval=300,
        ),
    )


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


def test_auto_lvm_makes_no_volumes_for_the_root_alone() -> None:
    assert parse("[customizations]\npartitioning_mode = 'auto-lvm'\n") == DiskConfiguration()


def test_a_json_file_with_the_older_wrapping_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"blueprint": {"customizations": {"user": [{"name": "foo"}]}}}')
    assert load_configuration(path).users == (User(name="foo"),)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("users[1].groups[0]", "customizations.user[1].groups[0]"),
        ("users[2].name", "customizations.sshkey[0].name"),
        ("files[3].owner", "customizations.files[3].user"),
        ("files[3].group", "customizations.files[3].group"),
        ("directories[0].parents", "customizations.directories[0].ensure_parents"),
        ("locale", "customizations.locale.languages"),
        ("services.enabled[2]", "customizations.services.enabled[2]"),
        ("root.label", "root.label"),
    ],
)
def test_what_is_found_wrong_later_is_told_by_the_blueprints_own_keys(
    tmp_path: Path, key: str, found: str
) -> None:
    path = tmp_path / "config.json"
    custom = {
        "user": [{"name": "foo"}, {"name": "bar"}],
        "sshkey": [{"user": "baz", "key": "k"}, {"user": "baz", "key": "l"}],
        "locale": {"languages": ["C.UTF-8"]},
    }
    path.write_text(json.dumps({"blueprint": {"customizations": custom}}))
    origin = load_with_origin(path)[1]
    assert (origin.where, origin.key(key)) == (str(path), found)


def test_what_is_empty_or_off_asks_for_nothing() -> None:
    assert parse("packages = []\n[customizations]\nfips = false\n") == DiskConfiguration()


def custom(text: str) -> str:
    return f"[customizations]\n{text}"


def partition(text: str) -> str:
    return f"[[customizations.disk.partitions]]\n{text}"


# What is written, and the words that the error has.
REFUSED = {
    "unknown key": (custom("hostnick = 'x'"), "'customizations.hostnick' is not a known key"),
    "unknown key at the top": ("foo = 1", "'foo' is not a known key"),
    "unknown key of a user": (
        "[[customizations.user]]\nname = 'a'\nkeys = 'b'",
        "'customizations.user[0].keys' is not a known key",
    ),
    "packages": ("[[packages]]\nname = 'vim'", "'packages' cannot be honoured"),
    "distribution": ("distro = 'rhel-10'", "'distro' cannot be honoured"),
    "architecture": ("architecture = 's390x'", "'architecture' is s390x"),
    "kernel": (custom("kernel.name = 'rt'"), "'customizations.kernel.name' cannot be honoured"),
    "expiry": (
        "[[customizations.user]]\nname = 'a'\nexpiredate = 1",
        "'customizations.user[0].expiredate' cannot be honoured",
    ),
    "file from elsewhere": (
        "[[customizations.files]]\npath = '/etc/x'\nuri = 'file:///x'",
        "'customizations.files[0].uri' cannot be honoured",
    ),
    "file of the image": (
        "[[customizations.files]]\npath = '/usr/x'",
        "'customizations.files[0].path' is /usr/x, which is the image's",
    ),
    "several languages": (
        custom("locale.languages = ['C', 'de_DE.UTF-8']"),
        "'customizations.locale.languages' has several entries",
    ),
    "name of a user": (
        "[[customizations.user]]\nname = 'Alice'",
        "'customizations.user[0].name' is \"Alice\"",
    ),
    "shell": (
        "[[customizations.user]]\nname = 'a'\nshell = 'bash'",
        "'customizations.user[0].shell' is \"bash\"",
    ),
    "way of root's login": (
        custom("sshd.permit_root_login = 'maybe'"),
        "'customizations.sshd.root-login' is \"maybe\"",
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
    "not TOML": ("[customizations", "config.toml is not valid TOML"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_is_refused_by_file_and_key_path(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert str(refused.value).startswith("config.toml")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "key",
    [
        "firewall",
        "installation_device",
        "fdo",
        "openscap",
        "ignition",
        "repositories",
        "fips",
        "installer",
        "rpm",
        "rhsm",
        "cacerts",
        "containers-storage",
        "firstboot",
        "dnf",
        "iso",
    ],
)
@pytest.mark.parametrize("value", [True, {"any": 1}, [1], "text"])
def test_no_customization_that_is_not_done_is_passed_over(key: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot be honoured") as refused:
        parse_blueprint({"customizations": {key: value}}, "config.json")
    assert f"'customizations.{key}'" in str(refused.value)
    assert refused.value.remedy
