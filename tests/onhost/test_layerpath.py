"""Where entries of a layer go."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.oci.layerpath import UnsafePathError, Whiteout, clean, whiteout

parts = st.sampled_from(["usr", "etc", "run", "var", "a", "..", ".", "", ".wh.etc", "é", "..."])
names = st.lists(parts, min_size=1, max_size=6).map("/".join)


@given(names)
def test_cleaned_paths_stay_inside_and_clean(name: str) -> None:
    try:
        path = clean(name)
    except UnsafePathError:
        assert ".." in name.split("/")
        return
    assert ".." not in name.split("/")
    if path:
        assert path == posixpath.normpath(path)
        assert not path.startswith("/")
        assert clean(path) == path
        assert path.split("/")[0] != "etc"
        assert path.split("/")[0] != "run" or path == "run"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("etc/passwd", "usr/etc/passwd"),
        ("./etc", "usr/etc"),
        ("/etc/.wh.x", "usr/etc/.wh.x"),
        (".wh.etc", "usr/.wh.etc"),
        ("usr/etc", "usr/etc"),
        ("usr//lib/./x/", "usr/lib/x"),
        ("usr/.hidden", "usr/.hidden"),
        ("./", ""),
        ("/", ""),
        ("tmp/", "tmp"),
        ("dev/null", None),
        ("proc/1/x", None),
        ("var/tmp/x", "var/tmp/x"),
        ("usr/a..b", "usr/a..b"),
    ],
)
def test_paths_go_where_ostree_wants_them(name: str, path: str | None) -> None:
    assert clean(name) == path


@pytest.mark.parametrize("name", ["../x", "usr/../etc", "usr/lib/..", "/.."])
def test_climbing_is_refused(name: str) -> None:
    with pytest.raises(UnsafePathError):
        clean(name)


def test_whiteouts_name_what_they_remove() -> None:
    assert whiteout("a/.wh.b") == Whiteout("a", "b")
    assert whiteout("a/.wh..wh..opq") == Whiteout("a", "")
    assert whiteout("a/b") is None
