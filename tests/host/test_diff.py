"""Two deployments compared by their objects and package databases, against real commits."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.host.package_list import (
    compare_packages,
    parse_dpkg,
    parse_rpm,
    read_packages,
)
from tests.host.invented_os import write_image
from tests.host.pretend_boot import BOOTC, PretendHost

PARAGRAPH = """Package: {name}
Status: {status}
Architecture: {architecture}
Version: {version}
Description: something
 Version: of what is indented nobody speaks
"""


def dpkg_status(**versions: str) -> str:
    return "\n".join(
        PARAGRAPH.format(
            name=name, version=version, status="install ok installed", architecture="amd64"
        )
        for name, version in versions.items()
    )


def with_packages(tree: Path, **versions: str) -> None:
    database = tree / "usr/lib/sysimage/dpkg"
    database.mkdir(parents=True)
    (database / "status").write_text(dpkg_status(**versions))


def version_two(tree: Path) -> None:
    with_packages(tree, base="1", gone="1", changed="1")
    (tree / "usr/share/old").mkdir(parents=True)
    (tree / "usr/share/old/inner").write_text("inner")
    (tree / "usr/bin/tool").write_text("same")


def version_three(tree: Path) -> None:
    with_packages(tree, base="1", changed="2", came="1")
    (tree / "usr/share").mkdir()
    (tree / "usr/share/new").write_text("new")
    (tree / "usr/bin/tool").write_text("same")
    (tree / "usr/bin/tool").chmod(0o755)


@pytest.fixture
def upgraded(host: PretendHost) -> PretendHost:
    """Version 2 is booted, version 3 queued."""
    for version, spoil in (("2", version_two), ("3", version_three)):
        kargs = 'kargs = ["quiet"]' if version == "3" else ""
        layout = host.scratch / "tmp/image"
        write_image(layout, host.scratch, version=version, kargs=kargs, spoil=spoil)
        host.bootc("upgrade")
        if version == "2":
            host.reboot()
    return host


def test_queued_deployment_is_compared_with_the_booted_one(upgraded: PretendHost) -> None:
    found = json.loads(upgraded.bootc("diff", "--format=json"))
    assert (found["from"]["deployment"], found["from"]["version"]) == ("booted", "2")
    assert (found["to"]["deployment"], found["to"]["version"]) == ("staged", "3")
    status = upgraded.status()
    assert found["to"]["imageDigest"] == status["staged"]["image"]["imageDigest"]
    assert found["to"]["checksum"] == status["staged"]["ostree"]["checksum"]
    assert found["packages"] == {
        "added": {"came": "1"},
        "removed": {"gone": "1"},
        "changed": {"changed": {"from": "1", "to": "2"}},
    }
    assert found["kernelArguments"] == {"added": ["quiet"], "removed": []}
    files = found["files"]
    assert set(files["added"]) >= {"/usr/share/new", "/usr/lib/bootc/kargs.d/10-test.toml"}
    assert set(files["removed"]) == {"/usr/share/old/", "/usr/share/old/inner"}
    assert {"/usr/bin/tool", "/usr/lib/version"} < set(files["changed"])
    assert "/usr/etc/colour" not in files["changed"]


def test_files_are_those_that_libostree_names(upgraded: PretendHost) -> None:
    found = json.loads(upgraded.bootc("diff", "booted", "staged", "--format=json"))
    status = upgraded.status()
    commits = [status[role]["ostree"]["checksum"] for role in ("booted", "staged")]
    done = upgraded.execute("ostree", "diff", "--repo=/sysroot/ostree/repo", *commits)
    theirs: dict[str, set[str]] = {"A": set(), "D": set(), "M": set()}
    for line in done.stdout.splitlines():
        kind, path = line.split(maxsplit=1)
        theirs[kind].add(path)
    ours = {name: {path for path in paths if not path.endswith("/")} for name, paths in found["files"].items()}  # fmt: skip
    assert ours["changed"] == theirs["M"]
    # It names a directory alone where we name what is in it, too; and has no sign for one.
    folders = {path.rstrip("/") for paths in found["files"].values() for path in paths}
    assert theirs["A"] <= folders
    assert theirs["D"] <= folders


def test_deployments_are_named_by_role_or_index(upgraded: PretendHost) -> None:
    forward = json.loads(upgraded.bootc("diff", "staged", "--format=json"))
    back = json.loads(upgraded.bootc("diff", "0", "1", "--format=json"))
    assert forward["packages"]["added"] == back["packages"]["removed"]
    assert forward["files"]["added"] == back["files"]["removed"]
    done = upgraded.execute(*BOOTC, "diff", "booted", "nowhere")
    assert "There is no deployment 'nowhere'." in done.stderr
    assert upgraded.execute(*BOOTC, "diff", "a", "b", "c").status == 2


def test_people_see_packages_arguments_and_files(upgraded: PretendHost) -> None:
    lines = upgraded.bootc("diff").splitlines()
    assert lines[0].startswith("From: booted, version 2 (sha256:")
    assert "Packages: 3 different" in lines
    assert "  ~ changed 1 -> 2" in lines
    assert "Kernel arguments: 1 different" in lines
    assert "  + quiet" in lines
    assert "  + /usr/share/new" in lines


def test_same_deployment_differs_in_nothing(upgraded: PretendHost) -> None:
    same = upgraded.bootc("diff", "booted", "booted").splitlines()
    assert same[2:] == ["Packages: the same", "Kernel arguments: the same", "Files: the same"]


def test_lonely_deployment_has_nothing_to_compare_with(host: PretendHost) -> None:
    done = host.execute(*BOOTC, "diff")
    assert done.status == 1
    assert done.stderr.startswith("error: There is only one deployment.")


def test_only_installed_packages_count_and_architectures_show_where_needed() -> None:
    text = "\n".join(
        PARAGRAPH.format(name=name, version=version, status=status, architecture=architecture)
        for name, version, status, architecture in (
            ("libc6", "1", "install ok installed", "amd64"),
            ("libc6", "2", "install ok installed", "i386"),
            ("tool", "3:1-2", "hold ok installed", "all"),
            ("left", "9", "deinstall ok config-files", "amd64"),
        )
    )
    assert parse_dpkg(text) == {"libc6:amd64": "1", "libc6:i386": "2", "tool": "3:1-2"}


def test_rpm_s_listing_is_read() -> None:
    listing = "bash\t5.2-1\tx86_64\nkernel\t6.1-1\tx86_64\nkernel\t6.2-1\tx86_64\n"
    assert parse_rpm(listing) == {"bash": "5.2-1", "kernel": "6.1-1, 6.2-1"}


def test_database_of_this_machine_is_what_dpkg_says() -> None:
    found = read_packages(Path("/"))
    assert found is not None
    assert "dpkg" in found


def test_tree_without_a_database_has_no_list(tmp_path: Path) -> None:
    assert read_packages(tmp_path) is None
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    assert read_packages(tmp_path) is None
    shutil.rmtree(tmp_path / "var")


VERSIONS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("123"))


@given(VERSIONS, VERSIONS)
def test_changes_turn_one_list_into_the_other(old: dict[str, str], new: dict[str, str]) -> None:
    changes = compare_packages(old, new)
    turned = {name: version for name, version in old.items() if name not in changes.removed}
    turned |= changes.added
    turned |= {name: to for name, (_, to) in changes.changed.items()}
    assert turned == new
