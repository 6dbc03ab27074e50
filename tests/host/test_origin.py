"""Origin files: what is ours is read and written, what is others' stays."""

import gi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.origin import Origin

gi.require_version("GLib", "2.0")
from gi.repository import GLib  # noqa: E402

RPM_OSTREE = "[origin]\nrefspec=fedora:fedora/x86_64/silverblue\n\n[packages]\nrequested=vim;\n"
VALUES = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), min_size=1)


def test_image_is_read() -> None:
    origin = Origin.parse(
        "# by hand\n[origin]\ncontainer-image-reference=ostree-unverified-registry:q.io/a:1\n"
    )
    assert origin.image == "ostree-unverified-registry:q.io/a:1"
    assert not origin.incompatible


def test_unknown_groups_and_keys_stay_and_transient_state_goes() -> None:
    origin = Origin.parse(
        "[origin]\ncontainer-image-reference=old\nother=1\n"
        "[libostree-transient]\npinned=true\n[vendor]\nkey=a=b\n"
    )
    text = origin.tracking("new").serialise()
    assert Origin.parse(text).groups == {
        "origin": {"other": "1", "container-image-reference": "new"},
        "vendor": {"key": "a=b"},
    }


@pytest.mark.parametrize("group", ["rpmostree", "packages", "overrides", "modules"])
def test_groups_of_rpm_ostree_make_it_incompatible(group: str) -> None:
    assert Origin.parse(f"[origin]\nrefspec=a\n[{group}]\nx=y\n").incompatible


def test_tracking_an_image_leaves_the_branch_and_local_packages_behind() -> None:
    origin = Origin.parse(RPM_OSTREE)
    assert origin.refspec == "fedora:fedora/x86_64/silverblue"
    turned = origin.tracking("ostree-unverified-registry:q.io/a:1")
    assert turned.groups == {
        "origin": {"container-image-reference": "ostree-unverified-registry:q.io/a:1"}
    }
    assert not turned.incompatible


def test_damaged_file_is_named_by_its_line() -> None:
    with pytest.raises(UserError, match="line 2"):
        Origin.parse("[origin]\nnonsense\n")


@given(VALUES)
def test_glib_reads_what_we_write(value: str) -> None:
    written = Origin.of_image(value).serialise()
    key_file = GLib.KeyFile.new()
    key_file.load_from_data(written, len(written.encode()), GLib.KeyFileFlags.NONE)
    assert key_file.get_string("origin", "container-image-reference") == value


@given(VALUES)
def test_we_read_what_glib_writes(value: str) -> None:
    key_file = GLib.KeyFile.new()
    key_file.set_string("origin", "container-image-reference", value)
    assert Origin.parse(key_file.to_data()[0]).image == value
