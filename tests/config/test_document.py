from pathlib import Path

import pytest

from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.disk_yaml import disk_configuration
from bootc_build.config.document import parse_document
from bootc_build.config.load import load_configuration
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.sizes import GIB


def parse(text: str) -> DiskConfiguration:
    return disk_configuration(parse_document(text, ".yaml", "disk.yaml"), "disk.yaml")


# What is written, and the words that the error has.
WRONG = {
    "date": ("timezone: 2026-01-01", ("'timezone' is 2026-01-01", "quotes")),
    "key twice": ("size: 1G\nsize: 2G", ("the key 'size' is there twice (line 2)",)),
    "not YAML": ("users: [", ("disk.yaml is not valid YAML", "line 1")),
    "no table": ("- size", ("disk.yaml holds no keys",)),
    "value that holds itself": (
        "users: &x [*x]",
        ("disk.yaml has more than 30 tables", "an anchor"),
    ),
    "table that holds itself": ("root: &x {boot: *x}", ("disk.yaml has more than 30 tables",)),
    "brackets without an end": ("size: " + 2000 * "[", ("disk.yaml has more than 30 tables",)),
    "anchors that multiply": (
        "a0: &a0 [1]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
        ("disk.yaml holds more than 100000 values",),
    ),
    "half a character": (r'hostname: "\uD800"', ("disk.yaml has half a character in a text",)),
    "key that is no text": (
        "2026-01-01: 1",
        ("the key '2026-01-01' is no text (line 1)", "quotes"),
    ),
    "key twice beside what is merged": (
        "boot: &x {size: 1G}\nesp: {<<: *x, size: 2G, size: 3G}",
        ("the key 'size' is there twice (line 2)",),
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_no_document_is_refused_with_the_place(
    text: str, said: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert str(refused.value).startswith("disk.yaml")
    for words in said:
        assert words in str(refused.value)


def test_anchors_are_merged_and_overridden() -> None:
    found = parse(
        """
        filesystems:
        - &data {mountpoint: /var/a, size: 1G, options: [nodev]}
        - {<<: *data, mountpoint: /var/b}
        """
    )
    assert [(each.mountpoint, each.size, each.options) for each in found.filesystems] == [
        ("/var/a", GIB, ("nodev",)),
        ("/var/b", GIB, ("nodev",)),
    ]


@pytest.mark.parametrize("name", ["nowhere.yaml", "disk.ini", "bytes.yaml"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "disk.ini").write_text("size=1")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=name):
        load_configuration(tmp_path / name)


@pytest.mark.parametrize(
    ("suffix", "text"), [(".toml", "a = " + 2000 * "["), (".json", 200_000 * "[")]
)
def test_no_depth_is_too_much_to_be_told(suffix: str, text: str) -> None:
    with pytest.raises(UsageError, match="disk has more than 30 tables and lists in each other"):
        parse_document(text, suffix, "disk")
