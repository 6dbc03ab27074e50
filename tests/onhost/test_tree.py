"""Directory objects by hand, against GLib's own serialisation."""

import gi
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.ostree.tree import DIRTREE_TYPE, Directory, decode, encode

gi.require_version("GLib", "2.0")
from gi.repository import GLib  # noqa: E402 - the version has to be chosen first

names = st.text(
    st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=300
)
checksums = st.binary(min_size=32, max_size=32).map(bytes.hex)
directories = st.builds(
    Directory,
    st.dictionaries(names, checksums, max_size=20),
    st.dictionaries(names, st.tuples(checksums, checksums), max_size=20),
)


@given(directories)
def test_encoding_is_glibs(directory: Directory) -> None:
    files = [(name, bytes.fromhex(c)) for name, c in sorted(directory.files.items())]
    dirs = [
        (name, bytes.fromhex(tree), bytes.fromhex(meta))
        for name, (tree, meta) in sorted(directory.dirs.items())
    ]
    variant = GLib.Variant(DIRTREE_TYPE, (files, dirs))
    assert encode(directory) == (variant.get_data_as_bytes().get_data() or b"")


@given(directories)
def test_decoding_reverses_encoding(directory: Directory) -> None:
    assert decode(encode(directory)) == directory


def test_a_directory_of_thousands_uses_wide_offsets() -> None:
    directory = Directory({f"file-{i:05}": f"{i:064x}" for i in range(3000)})
    assert decode(encode(directory)) == directory
