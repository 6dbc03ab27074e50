"""Our reader of GVariants gives what GLib gives."""

from contextlib import suppress
from typing import Any

import gi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.ostree.gvariant import _split, decode, encode

gi.require_version("GLib", "2.0")
from gi.repository import GLib  # noqa: E402 - the version has to be chosen first

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300)
NUMBERS = {
    "y": st.integers(0, 2**8 - 1),
    "n": st.integers(-(2**15), 2**15 - 1),
    "q": st.integers(0, 2**16 - 1),
    "i": st.integers(-(2**31), 2**31 - 1),
    "u": st.integers(0, 2**32 - 1),
    "x": st.integers(-(2**63), 2**63 - 1),
    "t": st.integers(0, 2**64 - 1),
    "b": st.booleans(),
}
BASIC = st.sampled_from([*NUMBERS, "s"])


def kinds() -> st.SearchStrategy[str]:
    return st.recursive(
        BASIC,
        lambda inner: st.one_of(
            inner.map(lambda kind: f"a{kind}"),
            st.lists(inner, min_size=1, max_size=4).map(lambda parts: f"({''.join(parts)})"),
            st.tuples(BASIC, inner).map(lambda pair: f"a{{{pair[0]}{pair[1]}}}"),
            st.just("v"),
        ),
        max_leaves=6,
    )


@st.composite
def values(draw: st.DrawFn, kind: str) -> Any:
    if kind in NUMBERS:
        return draw(NUMBERS[kind])
    if kind == "s":
        return draw(TEXT)
    if kind == "v":
        inner = draw(BASIC)
        return GLib.Variant(inner, draw(values(inner)))
    if kind.startswith("a{"):
        key, value = kind[2], kind[3:-1]
        return draw(st.dictionaries(values(key), values(value), max_size=3))
    if kind.startswith("a"):
        return draw(st.lists(values(kind[1:]), max_size=4))
    return tuple(draw(values(member)) for member in _split(kind[1:-1]))


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, bytes):
        return list(ours) == list(theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(ours == theirs) and type(ours) is type(theirs)


@given(st.data())
def test_every_value_is_read_as_glib_reads_it(data: st.DataObject) -> None:
    kind = data.draw(kinds())
    variant = GLib.Variant(kind, data.draw(values(kind)))
    serialised = variant.get_data_as_bytes().get_data() or b""
    assert same(decode(kind, serialised), variant.unpack())


def plain(kind: str, variant: GLib.Variant) -> Any:
    """A value as `encode` takes it: a variant with its type."""
    if kind[0] not in "va({":
        return variant.unpack()
    if kind == "ay":
        return bytes(variant.unpack())
    children = [variant.get_child_value(i) for i in range(variant.n_children())]
    if kind == "v":
        [inside] = children
        return inside.get_type_string(), plain(inside.get_type_string(), inside)
    if kind[0] == "a":
        return [plain(kind[1:], child) for child in children]
    return tuple(map(plain, _split(kind[1:-1]), children))


@given(st.data())
def test_every_value_is_written_as_glib_writes_it(data: st.DataObject) -> None:
    kind = data.draw(kinds())
    variant = GLib.Variant(kind, data.draw(values(kind)))
    assert encode(kind, plain(kind, variant)) == (variant.get_data_as_bytes().get_data() or b"")


@given(st.binary(max_size=40), kinds())
def test_damaged_data_is_a_value_error_or_a_value(data: bytes, kind: str) -> None:
    with suppress(ValueError):
        decode(kind, data)


def test_cut_off_data_is_not_read() -> None:
    variant = GLib.Variant("a{sv}", {"target": GLib.Variant("s", "x" * 400)})
    data = variant.get_data_as_bytes().get_data()
    assert data is not None
    with pytest.raises(ValueError, match=r"."):
        decode("a{sv}", data[:50])
