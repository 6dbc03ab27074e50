import json
from pathlib import Path

import pytest

from bootc_build.config.disk import (
    Directory,
    DiskConfiguration,
    ExtraFileSystem,
    File,
    Group,
    Root,
    Services,
    Sshd,
    Swap,
    User,
)
from bootc_build.config.load import load_configuration
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import GIB
from tests.config.blueprints import parse

EVERYTHING = """
name = "node"
architecture = "aarch64"

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
home = "/var/home/alice/"
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
append = "mitigations=auto,nosmt quiet dyndbg=\\"file drivers/usb/* +p\\" ip=10.0.0.2::10.0.0.1:24::eth0:none"

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
        architecture="arm64",
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
        kernel_arguments=(
            "mitigations=auto,nosmt",
            "quiet",
            'dyndbg="file drivers/usb/* +p"',
            "ip=10.0.0.2::10.0.0.1:24::eth0:none",
        ),
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


def test_a_json_file_with_the_older_wrapping_is_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"blueprint": {"customizations": {"user": [{"name": "foo"}]}}}')
    assert load_configuration(path)[0].users == (User(name="foo"),)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("users[1].groups[0]", "customizations.user[1].groups[0]"),
        ("users[2].name", "customizations.sshkey[0].user"),
        ("users[2].ssh-keys[1]", "customizations.sshkey[1].key"),
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
        "sshkey": [{"user": "baz", "key": f"ssh-ed25519 {key}"} for key in ("AAAA", "BBBB")],
        "files": [{"path": f"/etc/{number}", "data": ""} for number in range(4)],
        "directories": [{"path": "/etc/d"}],
        "locale": {"languages": ["C.UTF-8"]},
    }
    path.write_text(json.dumps({"blueprint": {"customizations": custom}}))
    source = load_configuration(path)[1]
    assert (source.where, source.key(key)) == (str(path), found)


def test_what_is_empty_or_off_asks_for_nothing() -> None:
    assert parse("packages = []\n[customizations]\nfips = false\n") == DiskConfiguration()


@pytest.mark.parametrize(
    ("said", "password", "secret"),
    [
        ("", None, None),
        ("secret", "secret", None),
        ("$hidden", "$hidden", None),
        ("$100 or so", "$100 or so", None),
        ("$2b$05$abc$def", None, "$2b$05$abc$def"),
        ("$5$salt$hash", None, "$5$salt$hash"),
        ("$y$j9T$salt$hash", None, "$y$j9T$salt$hash"),
        ("!", "!", None),
    ],
)
def test_a_password_is_a_hash_by_its_prefix_and_an_empty_one_is_none(
    said: str, password: str | None, secret: str | None
) -> None:
    [user] = parse(f"[[customizations.user]]\nname = 'a'\npassword = '{said}'").users
    assert (user.password, user.password_hash) == (password, secret)


def test_keys_below_sshkey_join_those_of_their_user() -> None:
    found = parse(
        """
        [[customizations.user]]
        name = "alice"
        key = "ssh-ed25519 AAAA"
        [[customizations.sshkey]]
        user = "root"
        key = "ssh-ed25519 BBBB"
        [[customizations.sshkey]]
        user = "alice"
        key = "ssh-ed25519 CCCC"
        """
    )
    assert found.users == (
        User(name="alice", ssh_keys=("ssh-ed25519 AAAA", "ssh-ed25519 CCCC")),
        User(name="root", ssh_keys=("ssh-ed25519 BBBB",)),
    )


@pytest.mark.parametrize(
    ("said", "architecture"),
    [("x86_64", "amd64"), ("amd64", "amd64"), ("aarch64", "arm64"), ("arm64", "arm64")],
)
def test_the_architecture_is_the_one_that_the_image_must_have(said: str, architecture: str) -> None:
    found = parse(f"name = 'a'\narchitecture = '{said}'")
    assert found == DiskConfiguration.model_validate({"architecture": architecture})


@pytest.mark.parametrize("name", ["config.toml", "config.json"])
@pytest.mark.parametrize(
    "key", ["name", "version", "description", "containers", "enabled_modules", "minimal", "distro"]
)
def test_a_key_of_blueprints_alone_makes_a_file_a_blueprint(
    tmp_path: Path, name: str, key: str
) -> None:
    empty = "[]" if key in ("containers", "enabled_modules") else '""'
    text = f"{key} = {empty}\n" if name.endswith("toml") else f'{{"{key}": {empty}}}'
    (tmp_path / name).write_text(text)
    assert load_configuration(tmp_path / name)[0] == DiskConfiguration()


def test_groups_that_may_be_of_packages_or_of_users_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("architecture = 'arm64'\n[[groups]]\nname = 'core'\n")
    with pytest.raises(
        UsageError, match=r"config\.toml: 'groups' may be those of packages"
    ) as refused:
        load_configuration(path)
    assert "customizations.group" in refused.value.remedy
    path.write_text("name = 'a'\n[[groups]]\nname = 'core'\n")
    with pytest.raises(UsageError, match="'groups' cannot be honoured"):
        load_configuration(path)
    path.write_text("hostname = 'a'\n[[groups]]\nname = 'core'\n")
    assert load_configuration(path)[0].groups == (Group(name="core"),)
    other = tmp_path / "disk.yaml"
    other.write_text("groups: [{name: core}]")
    assert load_configuration(other)[0].groups == (Group(name="core"),)
