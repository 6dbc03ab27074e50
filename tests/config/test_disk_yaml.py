import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.config.disk import DiskConfiguration, disk_configuration
from bootc_build.config.document import parse_document
from bootc_build.config.load import load_configuration
from bootc_build.config.schema import disk_schema
from bootc_build.config.sizes import parse_blueprint_size, parse_config_size
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import GIB, MIB, parse_size

PROJECT = Path(__file__).resolve().parents[2]


def parse(text: str) -> DiskConfiguration:
    return disk_configuration(parse_document(text, ".yaml", "disk.yaml"), "disk.yaml")


def test_everything_that_is_documented_is_read() -> None:
    found = load_configuration(PROJECT / "examples/disk.yaml")
    assert found.root.filesystem == "ext4"
    assert found.filesystems[0].mountpoint == "/var/home"
    assert found.filesystems[0].size == 2 * GIB
    assert found.users[0].groups == ("sudo",)


def test_the_example_says_every_key_that_there_is() -> None:
    document = yaml.safe_load((PROJECT / "examples/disk.yaml").read_text())
    known = {field.alias for field in DiskConfiguration.model_fields.values()}
    # The size of a disk is either exact or a minimum, and the base image has no keymaps and no LVM.
    assert set(document) == known - {"minimum-size", "keyboard", "volume-group"}


SUBVOLUME_AND_FILE_SYSTEM = """
root: {subvolumes: [{name: a, mountpoint: /}, {name: b, mountpoint: /var/b}]}
filesystems: [{mountpoint: /var/b, size: 1G}]
"""

# What is written, and the words that the error has: key path, what is wrong, what is allowed.
WRONG = {
    "unknown key": (
        "bigness: 1G",
        ("'bigness' is not a known key", "Known there: boot, directories"),
    ),
    "unknown key below": ("root: {fs: ext4}", ("'root.fs'", "Known there: filesystem, label")),
    "unknown key in a list": (
        "users: [{name: a}, {name: b, nick: c}]",
        ("'users[1].nick'", "Known there: description"),
    ),
    "unit that means two things": ("size: 20GB", ("'size' is \"20GB\"", "KiB, MiB, GiB")),
    "no size": ("size: 0", ("'size' is 0", "KiB")),
    "negative size": ("boot: {size: -1G}", ("'boot.size'", "KiB")),
    "file system that is not known": (
        "root: {filesystem: zfs}",
        ("'root.filesystem' is \"zfs\"", "Allowed there: 'ext4', 'btrfs' or 'xfs'"),
    ),
    "number as text": ("updates: '2'", ("'updates'", "has to be a whole number")),
    "too many updates": ("updates: 1000", ("'updates' is 1000", "less than or equal to 100")),
    "text as list": ("users: alice", ("'users'", "has to be a list")),
    "list as table": ("root: [ext4]", ("'root'", "has to be a table")),
    "number as name": ("hostname: 7", ("'hostname' is 7", "has to be a text")),
    "date": ("timezone: 2026-01-01", ("'timezone' is 2026-01-01", "quotes")),
    "missing": ("swap: {}", ("'swap.size' is missing",)),
    "key twice": ("size: 1G\nsize: 2G", ("the key 'size' is there twice (line 2)",)),
    "not YAML": ("users: [", ("disk.yaml is not valid YAML", "line 1")),
    "no table": ("- size", ("disk.yaml holds no keys",)),
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
    "relative mount point": (
        "filesystems: [{mountpoint: var, size: 1G}]",
        ("'filesystems[0].mountpoint' is \"var\"", "^/"),
    ),
    "mount point that climbs": (
        "filesystems: [{mountpoint: /var/../usr, size: 1G}]",
        ("'filesystems[0].mountpoint'", "without '.', '..'"),
    ),
    "subvolumes without a root": (
        "root: {filesystem: btrfs, subvolumes: [{name: a, mountpoint: /var/a}]}",
        ("'root.subvolumes' has none that is mounted at /",),
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
    "name that is no volume's": (
        "volume-group: {name: 'a b'}\nroot: {volume: a}",
        ("'volume-group.name'",),
    ),
    "user that cannot be": ("users: [{name: Alice}]", ("'users[0].name'", "^[a-z_]")),
    "two passwords": (
        "users: [{name: a, password: b, password-hash: $6$x}]",
        ("'users[0].password' is there beside 'password-hash'",),
    ),
    "file of the image": (
        "files: [{path: /usr/bin/x}]",
        ("'files[0].path' is /usr/bin/x, which is the image's", "Allowed: below /etc, /var"),
    ),
    "mode that is none": (
        "files: [{path: /etc/x, mode: '0999'}]",
        ("'files[0].mode'", "[0-7]"),
    ),
    "mode that YAML takes for a number": (
        "files: [{path: /etc/x, mode: 0644}]",
        ("'files[0].mode' is 420", "has to be a text"),
    ),
    "way of root's login": (
        "sshd: {root-login: maybe}",
        ("'sshd.root-login'", "'prohibit-password'"),
    ),
    "name of a host": ("hostname: -x", ("'hostname'", "[A-Za-z0-9]")),
    "several": ("bigness: 1\nswap: {}\n", ("has 2 errors", "'bigness'", "'swap.size' is missing")),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_an_error_names_file_key_path_and_what_is_allowed(text: str, said: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert str(refused.value).startswith("disk.yaml")
    for words in said:
        assert words in str(refused.value)


@pytest.mark.parametrize("name", ["nowhere.yaml", "disk.ini", "bytes.yaml"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "disk.ini").write_text("size=1")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=name):
        load_configuration(tmp_path / name)


def test_an_empty_file_changes_nothing() -> None:
    assert parse("") == DiskConfiguration()


def test_published_schema_is_that_of_the_declarations() -> None:
    assert (PROJECT / "docs/disk.schema.json").read_text() == disk_schema()


def test_schema_takes_the_example_and_refuses_what_the_parser_refuses() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(disk_schema()))
    validator.check_schema(validator.schema)
    validator.validate(yaml.safe_load((PROJECT / "examples/disk.yaml").read_text()))
    for name in ("unknown key", "unknown key in a list", "number as text", "missing", "no size"):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(yaml.safe_load(WRONG[name][0]))


def test_every_key_is_explained_in_the_schema() -> None:
    schema = json.loads(disk_schema())
    for record in (schema, *schema["$defs"].values()):
        for key, value in record["properties"].items():
            assert value.get("description") or "$ref" in value, key


@given(st.text(alphabet="0123456789.KMGTiB ", max_size=8))
def test_a_size_of_the_command_line_and_of_a_file_are_the_same_bytes(text: str) -> None:
    try:
        size = parse_config_size(text)
    except ValueError:
        return
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [("10 GiB", 10 * GIB), ("1 GB", 10**9), ("500 MB", 500 * 10**6), ("1.5GiB", 1536 * MIB)],
)
def test_a_blueprints_units_are_those_of_blueprints(text: str, size: int) -> None:
    assert parse_blueprint_size(text) == size
