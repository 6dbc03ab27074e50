"""The same corner cases through this machine's libostree and through that of Debian trixie."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_build.onhost.ostree.repo import create_repo
from bootc_build.tools.buildah import Volume, image_exists, working_container
from tests.onhost.corner_cases import CASES, import_all, write_cases
from tests.onhost.encapsulated_images import encapsulate, labels_of
from tests.onhost.importing import listing, pulled
from tests.onhost.oci_images import File, write_image
from tests.onhost.test_selinux import SYSTEM, policy

TRIXIE = "localhost/bootc-build-test/base:trixie"
PROJECT = Path(__file__).parents[2]


def write_split_commit(folder: Path, scratch: Path) -> dict[str, str]:
    """One more image: a labelled ostree commit in three layers and a layer on top; its listing here."""
    source = create_repo(scratch / "source")
    commit = pulled(source, write_image(scratch / "base", [[*SYSTEM, *policy()]])).merge_commit
    layers = encapsulate(source, commit, 3)
    image = write_image(
        folder / "split commit",
        [*layers, [File("usr/bin/added"), File("usr/.wh.large")]],
        labels=labels_of(commit, layers[-1]),
    )
    return listing(source, pulled(source, image).merge_commit)


def check(found: dict[str, object], split: dict[str, str]) -> None:
    assert set(found) == {*CASES, "split commit"}
    assert found.pop("split commit") == split
    for name, case in CASES.items():
        if case.error:
            assert case.error in str(found[name]), name
        else:
            assert found[name] == case.expected, name


def on_this_machine(cases: Path) -> dict[str, object]:
    return import_all(cases)


def on_trixie(cases: Path) -> dict[str, object]:
    """What the same importer finds with the base image's own Python, libostree and skopeo."""
    if not image_exists(TRIXIE):
        pytest.skip(f"{TRIXIE} is not built; see: bootc-build base")
    inside = "/var/tmp/cases"
    with working_container(TRIXIE) as container:
        command = ["python3", "-m", "tests.onhost.corner_cases", inside]
        project = Volume(PROJECT, "/var/tmp/project", read_only=True)
        text = container.run(
            command,
            volumes=[project, Volume(cases, inside)],
            env={"PYTHONPATH": project.target, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    found: dict[str, object] = json.loads(text)
    return found


@pytest.mark.parametrize(
    "importer",
    [on_this_machine, pytest.param(on_trixie, marks=pytest.mark.base_image)],
    ids=["here", "trixie"],
)
def test_corner_cases(importer: Callable[[Path], dict[str, object]], tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    write_cases(cases)
    split = write_split_commit(cases, tmp_path)
    check(importer(cases), split)
