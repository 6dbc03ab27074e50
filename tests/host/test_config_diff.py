"""What is foretold of the merge of /etc is what the real libostree does."""

import itertools
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootc_build.onhost.host.config_diff import read_tree
from bootc_build.onhost.host.etc_merge import Change, Entry, Kind, Outcome, local_changes, merged
from tests.host.invented_os import write_image
from tests.host.pretend_boot import BOOTC, PretendHost

STATES = ("absent", "file", "other", "mode", "link", "empty", "folder", "closed")


def make(place: Path, state: str) -> None:
    """Bring a path into a state, whatever is there."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    match state:
        case "file" | "other" | "mode":
            place.write_text("file" if state == "mode" else state)
            place.chmod(0o600 if state == "mode" else 0o644)
        case "link":
            place.symlink_to("target")
        case "empty" | "folder" | "closed":
            place.mkdir()
            place.chmod(0o700 if state == "closed" else 0o755)
            if state == "folder":
                (place / "inner").write_text("inner")


def fill(etc: Path, states: dict[str, str]) -> None:
    for name, state in states.items():
        make(etc / name, state)


def foretold(host: PretendHost) -> dict[str, dict[str, str]]:
    document = json.loads(host.bootc("config-diff", "--format=json"))
    assert document["staged"] is True
    return {each["path"].removeprefix("/etc/"): each for each in document["differences"]}


def test_every_combination_is_merged_as_foretold(host: PretendHost) -> None:
    combinations = {f"c{'-'.join(each)}": each for each in itertools.product(STATES, repeat=3)}
    image, here, new = (
        {name: each[number] for name, each in combinations.items()} for number in range(3)
    )
    write_image(
        host.scratch / "tmp/image",
        host.scratch,
        version="2",
        spoil=lambda t: fill(t / "etc", image),
    )
    host.bootc("upgrade")
    host.reboot()
    write_image(
        host.scratch / "tmp/image", host.scratch, version="3", spoil=lambda t: fill(t / "etc", new)
    )
    host.bootc("upgrade")
    # What conflicts would not be queued; but /etc may be changed until the shutdown.
    fill(host.root / "etc", here)
    before = foretold(host)
    conflicts = {
        path.partition("/")[0] for path, each in before.items() if each["atNextBoot"] == "conflict"
    }
    # A file of here against a directory of the image, and what is in a directory against a file.
    assert "cabsent-file-folder" in conflicts
    assert "cempty-folder-file" in conflicts
    for name in conflicts:  # the administrator undoes what cannot be merged
        make(host.root / "etc" / name, image[name])
    before = foretold(host)
    assert not [path for path, each in before.items() if each["atNextBoot"] == "conflict"]
    present = read_tree(host.root / "etc")
    host.reboot()
    assert host.status()["booted"]["image"]["version"] == "3"
    after = read_tree(host.root / "etc")
    for path, each in before.items():
        if each["atNextBoot"] in ("staysRemoved", "gone"):
            assert path not in after, path
        elif each["atNextBoot"] == "lost":
            inside = {below for below in present if below == path or below.startswith(f"{path}/")}
            assert any(after.get(below) != present[below] for below in inside), path
        else:
            assert after[path] == present[path], path
    # What nobody changed here is the new image's, as long as it is below no path that was changed.
    for name in set(combinations) - {path.partition("/")[0] for path in before}:
        assert (name in after) == (new[name] != "absent"), name


@pytest.mark.parametrize(
    ("image", "here", "new"),
    [
        ("absent", "file", "folder"),
        ("empty", "folder", "file"),
        ("folder", "empty", "file"),
        ("empty", "folder", "link"),
    ],
)
def test_conflict_that_is_named_does_stop_the_merge(
    host: PretendHost, image: str, here: str, new: str
) -> None:
    for version, state in (("2", image), ("3", new)):
        write_image(
            host.scratch / "tmp/image",
            host.scratch,
            version=version,
            spoil=lambda tree, state=state: make(tree / "etc/thing", state),  # type: ignore[misc]
        )
        host.bootc("upgrade")
        if version == "2":
            host.reboot()
    make(host.root / "etc/thing", here)
    named = [each for each in foretold(host).values() if each["atNextBoot"] == "conflict"]
    assert named
    assert "new image" in named[0]["problem"]
    done = host.execute("ostree", "admin", "finalize-staged")
    assert done.status != 0


def test_people_see_each_change_and_what_becomes_of_it(host: PretendHost) -> None:
    etc = host.root / "etc"
    (etc / "colour").write_text("mine\n")
    (etc / "mine").write_text("mine\n")
    (etc / "fstab").unlink()
    assert host.bootc("config-diff") == "- /etc/fstab\n~ /etc/colour\n+ /etc/mine\n"
    assert json.loads(host.bootc("config-diff", "--format=json"))["staged"] is False

    def spoil(tree: Path) -> None:
        (tree / "etc/colour").write_text("another\n")
        (tree / "etc/mine").mkdir()

    write_image(host.scratch / "tmp/image", host.scratch, version="2", spoil=spoil)
    (etc / "mine").unlink()  # or it would not be queued
    host.bootc("upgrade")
    (etc / "mine").write_text("mine\n")
    assert host.bootc("config-diff").splitlines() == [
        "- /etc/fstab",
        "~ /etc/colour  (kept; the new image's own change is not used)",
        "+ /etc/mine  (conflict: it is a file here and a directory in the new image)",
    ]


def test_difference_of_nothing_is_nothing(host: PretendHost) -> None:
    assert host.bootc("config-diff") == ""


ENTRIES = st.builds(Entry, st.sampled_from([Kind.FILE, Kind.LINK]), st.sampled_from("xy"))
TREES = st.dictionaries(st.sampled_from(["a", "b", "c"]), ENTRIES)


@given(TREES, TREES)
def test_changes_turn_the_image_into_what_is_here(
    image: dict[str, Entry], present: dict[str, Entry]
) -> None:
    turned = dict(image)
    for each in local_changes(image, present):
        if each.change is Change.REMOVED:
            del turned[each.path]
        else:
            turned[each.path] = present[each.path]
    assert turned == present


@pytest.mark.parametrize(
    ("target", "conflicts"),
    [("real", False), ("./sub/../real", False), ("/etc/real", False), ("file", True), ("a", True)],
)
def test_directory_that_became_a_link_is_followed(target: str, *, conflicts: bool) -> None:
    new = {
        "a": Entry(Kind.LINK, target, target),
        "real": Entry(Kind.DIRECTORY),
        "file": Entry(Kind.FILE),
    }
    image = {"a": Entry(Kind.DIRECTORY)}
    (found,) = merged(image, {**image, "a/x": Entry(Kind.FILE)}, new)
    assert (found.outcome is Outcome.CONFLICT) == conflicts


FILE, FOLDER, OTHER_FOLDER = Entry(Kind.FILE), Entry(Kind.DIRECTORY), Entry(Kind.DIRECTORY, "0700")


def outcomes(
    image: dict[str, Entry], present: dict[str, Entry], new: dict[str, Entry]
) -> dict[str, Outcome | None]:
    return {each.path: each.outcome for each in merged(image, present, new)}


def test_directory_whose_mode_was_changed_hides_no_obstacle_below() -> None:
    image = {"a": FOLDER, "a/b": FOLDER}
    present = {"a": OTHER_FOLDER, "a/b": FOLDER, "a/b/mine": FILE}
    new = {"a": FOLDER, "a/b": FILE}
    assert outcomes(image, present, new)["a/b/mine"] is Outcome.CONFLICT


def test_what_a_link_of_the_new_image_leads_to_can_be_in_the_way() -> None:
    image = {"a": FOLDER, "real": FOLDER}
    present = {**image, "a/x": FILE}
    link = Entry(Kind.LINK, "real", "real")
    new = {"a": link, "real": FOLDER, "real/x": FOLDER}
    assert outcomes(image, present, new)["a/x"] is Outcome.CONFLICT
    through_two = {"a": Entry(Kind.LINK, "b/c", "b/c"), "b": link, "real": FOLDER, "real/c": FOLDER}
    assert outcomes(image, present, through_two)["a/x"] is Outcome.KEPT


def test_removal_below_a_link_that_leads_nowhere_is_no_conflict() -> None:
    image = {"a": FOLDER, "a/x": FILE}
    new = {"a": Entry(Kind.LINK, "nowhere", "nowhere")}
    assert outcomes(image, {"a": FOLDER}, new)["a/x"] is Outcome.GONE


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        ("/etc/real", Outcome.LOST),
        ("/usr/share/a", Outcome.CONFLICT),
        ("/var/lib/a", Outcome.KEPT),
        ("../var/lib/a", Outcome.KEPT),
    ],
)
def test_change_that_follows_a_link_out_of_etc_says_where_it_is_made(
    target: str, outcome: Outcome
) -> None:
    image = {"a": FOLDER}
    new = {"a": Entry(Kind.LINK, target, target)}
    (found,) = merged(image, {**image, "a/x": FILE}, new)
    assert found.outcome is outcome
    assert f"/etc/a is a link to {target} in the new image" in found.problem


def test_directory_that_the_image_closes_stays_open_where_something_in_it_was_changed(
    host: PretendHost,
) -> None:
    for version, mode in (("2", 0o755), ("3", 0o700)):

        def spoil(tree: Path, mode: int = mode) -> None:
            for name in ("changed", "untouched"):
                (tree / "etc" / name).mkdir()
                (tree / "etc" / name / "file").write_text("image\n")
                (tree / "etc" / name).chmod(mode)

        write_image(host.scratch / "tmp/image", host.scratch, version=version, spoil=spoil)
        host.bootc("upgrade")
        if version == "2":
            host.reboot()
    (host.root / "etc/changed/file").write_text("mine\n")
    assert host.bootc("config-diff").splitlines() == [
        "~ /etc/changed/file",
        (
            "= /etc/changed  (kept; the new image's own change is not used: "
            "its owner and mode stay, as something in it was changed here)"
        ),
    ]
    assert foretold(host)["changed"]["change"] == "unchanged"
    host.reboot()
    modes = {
        name: (host.root / "etc" / name).stat().st_mode & 0o777 for name in ("changed", "untouched")
    }
    assert modes == {"changed": 0o755, "untouched": 0o700}


def test_attributes_alone_are_lost_and_that_is_said(host: PretendHost) -> None:
    (host.root / "etc/folder").mkdir()
    write_image(host.scratch / "tmp/image", host.scratch, version="2")
    os.setxattr(host.root / "etc/colour", "user.mine", b"1")
    os.setxattr(host.root / "etc/fstab", "user.mine", b"1")
    (host.root / "etc/fstab").chmod(0o600)
    os.setxattr(host.root / "etc/containers", "user.mine", b"1")
    (host.root / "etc/containers/mine").touch()
    done = host.execute(*BOOTC, "upgrade")
    assert done.status == 0
    assert "/etc/colour will not be kept: extended attributes" in done.stderr
    assert "/etc/fstab" not in done.stderr
    known = {path: each["atNextBoot"] for path, each in foretold(host).items()}
    assert known == {
        "colour": "lost",
        "fstab": "kept",
        "containers": "kept",
        "containers/mine": "kept",
        "folder": "kept",
    }
    host.reboot()
    kept = {
        name: "user.mine" in os.listxattr(host.root / "etc" / name)
        for name in ("colour", "fstab", "containers")
    }
    assert kept == {"colour": False, "fstab": True, "containers": True}


def test_transient_etc_is_lost_with_the_reboot(host: PretendHost) -> None:
    overlay = "mount -t overlay overlay -o lowerdir=/etc,upperdir=/tmp/upper,workdir=/tmp/work /etc"
    script = f'mkdir /tmp/upper /tmp/work && {overlay} && echo mine > /etc/mine && "$@"'
    done = host.execute("sh", "-c", script, "sh", *BOOTC, "config-diff")
    assert done.stdout == "+ /etc/mine  (lost: /etc is transient (prepare-root.conf))\n", done
    assert not (host.root / "etc/mine").exists()


def test_names_that_are_no_text_are_shown_as_they_are(host: PretendHost) -> None:
    Path(os.fsdecode(os.fsencode(host.root / "etc") + b"/\xffname")).touch()
    command = ["env", "PYTHONIOENCODING=utf-8:strict", *BOOTC, "config-diff"]
    done = host.execute("sh", "-c", '"$@" | od -An -c', "sh", *command)
    assert done.stderr == ""
    assert "377   n   a   m   e" in done.stdout


@given(TREES, TREES, TREES)
def test_without_directories_nothing_conflicts(
    image: dict[str, Entry], present: dict[str, Entry], new: dict[str, Entry]
) -> None:
    outcomes = {each.outcome for each in merged(image, present, new)}
    assert Outcome.CONFLICT not in outcomes
    assert None not in outcomes


def test_special_files_are_not_kept() -> None:
    (found,) = merged({}, {"socket": Entry(Kind.SPECIAL)}, {})
    assert found.outcome is Outcome.IGNORED
