"""Whatever a file holds, it is read or refused; nothing else."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from bootc_build.config.blueprint import parse_blueprint
from bootc_build.config.blueprint_records import Blueprint
from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.disk_yaml import disk_configuration
from bootc_build.config.document import parse_document
from bootc_build.config.partition_table import parse_partition_table
from bootc_build.config.partition_table_records import Document
from bootc_build.onhost.errors import UsageError

TEXTS = ["", "/", "/boot", "/boot/efi", "/var/a", "/etc/a", "/etc/a/b", "a", "root", "snapshot"]
TEXTS += [
    "swap",
    "filesystem",
    "ext4",
    "btrfs",
    "vfat",
    "plain",
    "lvm",
    "gpt",
    "default",
    "1G",
    "1 GiB",
]
TEXTS += ["$6$a$b", "ssh-ed25519 AAAA a", 'x="a b"', "21686148-6449-6e6f-744e-656564454649"]
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([{}])
)


def documents(kind: type[BaseModel]) -> st.SearchStrategy[Any]:
    """What a record can be made of, and now and then something else."""
    schema = kind.model_json_schema(by_alias=True)
    return _values(schema, schema.get("$defs", {}))


def _values(schema: dict[str, Any], known: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _values(known[schema["$ref"].rpartition("/")[2]], known)
    if "anyOf" in schema:
        return st.one_of(*(_values(each, known) for each in schema["anyOf"]))
    if "properties" in schema:
        fields = {key: _values(each, known) for key, each in schema["properties"].items()}
        needed = {key: fields.pop(key) for key in schema.get("required", ())}
        some = st.fixed_dictionaries(needed, optional=fields)
        return st.one_of(some, some, some, some, ANYTHING)
    if "items" in schema:
        return st.lists(_values(schema["items"], known), max_size=3)
    texts = st.one_of(st.sampled_from(TEXTS), st.sampled_from(TEXTS), st.text(max_size=5))
    plain = {
        "integer": st.integers(0, 3000),
        "boolean": st.booleans(),
        "string": st.sampled_from(schema["enum"]) if "enum" in schema else texts,
    }
    return plain.get(schema.get("type", ""), ANYTHING)


@pytest.mark.parametrize(
    ("parse", "kind"),
    [
        (disk_configuration, DiskConfiguration),
        (lambda *said: parse_blueprint(*said)[0], Blueprint),
        (lambda *said: parse_partition_table(*said)[0], Document),
    ],
    ids=["disk.yaml", "blueprint", "partition table"],
)
def test_any_table_is_read_or_refused(
    parse: Callable[[dict[str, Any], str], object], kind: type[BaseModel]
) -> None:
    @given(documents(kind).filter(lambda document: isinstance(document, dict)))
    def check(document: dict[str, Any]) -> None:
        with suppress(UsageError):
            assert isinstance(parse(document, "file"), DiskConfiguration)

    check()


@given(
    st.text(alphabet="ab:-[]{},&*<!'\"\n #0=|.", max_size=30),
    st.sampled_from([".yaml", ".toml", ".json"]),
)
def test_any_text_is_a_table_or_refused(text: str, suffix: str) -> None:
    with suppress(UsageError):
        assert isinstance(parse_document(text, suffix, "file"), dict)
