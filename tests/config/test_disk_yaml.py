import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.disk_yaml import disk_configuration
from bootc_build.config.document import parse_document
from bootc_build.config.load import load_configuration
from bootc_build.config.schema import disk_schema
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import GIB

PROJECT = Path(__file__).resolve().parents[2]


def parse(text: str) -> DiskConfiguration:
    return disk_configuration(parse_document(text, ".yaml", "disk.yaml"), "disk.yaml")


def test_everything_that_is_documented_is_read() -> None:
    found = load_configuration(PROJECT / "examples/disk.yaml")[0]
    assert found.root.filesystem == "ext4"
    assert found.filesystems[0].mountpoint == "/var/home"
    assert found.filesystems[0].size == 2 * GIB
    assert found.users[0].groups == ("sudo",)


def test_the_example_says_every_key_that_there_is() -> None:
    document = yaml.safe_load((PROJECT / "examples/disk.yaml").read_text())
    known = {field.alias for field in DiskConfiguration.model_fields.values()}
    # The size of a disk is either exact or a minimum, the base image has no keymaps and no LVM, and the
    # example is for any architecture.
    assert set(document) == known - {"minimum-size", "keyboard", "volume-group", "architecture"}


# What is written, and the words that the error has: key path, what is wrong, what is allowed.
WRONG = {
    "unknown key": (
        "bigness: 1G",
        ("'bigness' is not a known key", "Known there: architecture, boot, directories"),
    ),
    "unknown key below": ("root: {fs: ext4}", ("'root.fs'", "Known there: filesystem, label")),
    "unknown key in a list": (
        "users: [{name: a}, {name: b, nick: c}]",
        ("'users[1].nick'", "Known there: description"),
    ),
    "no size": ("size: 0", ("'size' is 0", "KiB")),
    "number as text": ("updates: '2'", ("'updates'", "has to be a whole number")),
    "too many updates": ("updates: 1000", ("'updates' is 1000", "less than or equal to 100")),
    "text as list": ("users: alice", ("'users'", "has to be a list")),
    "list as table": ("root: [ext4]", ("'root'", "has to be a table")),
    "number as name": ("hostname: 7", ("'hostname' is 7", "has to be a text")),
    "missing": ("swap: {}", ("'swap.size' is missing",)),
    "several": ("bigness: 1\nswap: {}\n", ("has 2 errors", "'bigness'", "'swap.size' is missing")),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_an_error_names_file_key_path_and_what_is_allowed(text: str, said: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert str(refused.value).startswith("disk.yaml")
    for words in said:
        assert words in str(refused.value)


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
