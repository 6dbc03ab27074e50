"""Labels by the image's own SELinux policy; libostree and libselinux need no kernel with SELinux for it."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from bootc_build.onhost.oci.refnames import layer_ref
from bootc_build.onhost.ostree.objects import ObjectStore
from bootc_build.onhost.ostree.repo import Repo, create_repo
from tests.onhost.encapsulated_images import encapsulate, labels_of
from tests.onhost.importing import pulled
from tests.onhost.oci_images import Dir, Entry, File, Link, Symlink, write_image

CONTEXTS = """/.*                system_u:object_r:default_t:s0
/usr(/.*)?         system_u:object_r:usr_t:s0
/usr/bin(/.*)? --  system_u:object_r:bin_t:s0
/usr/bin(/.*)? -l  system_u:object_r:bin_link_t:s0
/etc(/.*)?         system_u:object_r:etc_t:s0
/usr/unlabelled    <<none>>
"""


def policy(contexts: str = CONTEXTS, mode: str = "enforcing") -> list[Entry]:
    """A policy that says little, with compiled rules that libostree only takes a checksum of."""
    where = "etc/selinux/tiny"
    config = f"SELINUX={mode}\nSELINUXTYPE=tiny\n".encode()
    return [
        File("etc/selinux/config", data=config),
        File(f"{where}/contexts/files/file_contexts", data=contexts.encode()),
        File(f"{where}/policy/policy.33", data=b"rules"),
    ]


SYSTEM: list[Entry] = [
    Dir("usr"),
    Dir("usr/bin"),
    File("usr/bin/tool", data=b"tool", mode=0o4755),
    Symlink("usr/bin/link", target="tool"),
    File("usr/large", data=os.urandom(700_000)),
    File("usr/unlabelled", data=b"u"),
    File("etc/conf", data=b"c"),
]


def labels(repo: Repo, commit: str) -> dict[str, str]:
    """Path to the type in its label; only what has one."""
    command = ["ostree", f"--repo={repo.path}", "ls", "-R", "-X", commit]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    found = {}
    for line in lines:
        if "security.selinux" in line:
            path = line.split(" -> ")[0].split()[-1]
            found[path] = line.partition("object_r:")[2].partition(":")[0]
    return found


EXPECTED = {
    "/": "default_t",
    "/usr": "usr_t",
    "/usr/bin": "usr_t",
    "/usr/bin/tool": "bin_t",
    "/usr/bin/link": "bin_link_t",
    "/usr/large": "usr_t",
    "/usr/etc": "etc_t",
    "/usr/etc/conf": "etc_t",
}


@pytest.fixture
def rewritten(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that were written once more for their label."""
    paths: list[str] = []
    again = ObjectStore.write_again

    def counted(store: ObjectStore, checksum: str, xattrs: dict[bytes, bytes]) -> str:
        paths.append(checksum)
        return again(store, checksum, xattrs)

    monkeypatch.setattr(ObjectStore, "write_again", counted)
    return paths


def commit_of(repo: Repo, tmp_path: Path, layers: Sequence[list[Entry]], tag: str = "1") -> str:
    return pulled(repo, write_image(tmp_path / "layout", layers, tag=tag)).merge_commit


def test_an_image_is_labelled_by_its_own_policy(repo: Repo, tmp_path: Path) -> None:
    found = labels(repo, commit_of(repo, tmp_path, [SYSTEM, policy()]))
    assert EXPECTED.items() <= found.items()
    assert "/usr/unlabelled" not in found
    assert found["/usr/etc/selinux/config"] == "etc_t"


def test_content_and_modes_are_as_they_were(repo: Repo, tmp_path: Path) -> None:
    commit = commit_of(repo, tmp_path, [SYSTEM, policy()])
    out = tmp_path / "out"
    subprocess.run(["ostree", f"--repo={repo.path}", "checkout", commit, out], check=True)
    assert (out / "usr/bin/tool").stat().st_mode & 0o7777 == 0o4755
    large = next(e for e in SYSTEM if e.path == "usr/large")
    assert isinstance(large, File)
    assert (out / "usr/large").read_bytes() == large.data


@pytest.mark.parametrize(
    "policies", [[], policy(mode="disabled"), policy()[:1]], ids=["none", "disabled", "not there"]
)
def test_without_a_policy_in_force_there_are_no_labels(
    repo: Repo, tmp_path: Path, policies: list[Entry], rewritten: list[str]
) -> None:
    assert labels(repo, commit_of(repo, tmp_path, [SYSTEM, policies])) == {}
    assert rewritten == []


def test_an_upgrade_under_the_same_policy_writes_nothing_again(
    repo: Repo, tmp_path: Path, rewritten: list[str]
) -> None:
    image = write_image(tmp_path / "layout", [SYSTEM, policy(), [File("usr/bin/a")]])
    pulled(repo, image)
    assert rewritten
    rewritten.clear()
    (tmp_path / "layout").rename(tmp_path / "old")
    upgrade = write_image(tmp_path / "layout", [SYSTEM, policy(), [File("usr/bin/b")]])
    found = labels(repo, pulled(repo, upgrade).merge_commit)
    assert rewritten == []  # what is new was labelled as it came
    assert EXPECTED.items() <= found.items()
    assert found["/usr/bin/b"] == "bin_t"


def test_another_policy_labels_anew_and_the_layers_keep_it(
    repo: Repo, tmp_path: Path, rewritten: list[str]
) -> None:
    other = CONTEXTS.replace("bin_t", "other_t")
    commit_of(repo, tmp_path, [SYSTEM, policy()])
    first = len(rewritten)
    image = write_image(tmp_path / "layout", [SYSTEM, policy(other)], tag="2")
    found = labels(repo, pulled(repo, image).merge_commit)
    assert found["/usr/bin/tool"] == "other_t"
    assert 0 < len(rewritten) - first < first  # only what differs
    layer = repo.resolve_ref(layer_ref(image.layer_digests[0]))
    assert layer is not None
    assert labels(repo, layer)["/usr/bin/tool"] == "other_t"


def test_links_whiteouts_and_directories_without_an_entry_are_labelled(
    repo: Repo, tmp_path: Path
) -> None:
    layers: list[list[Entry]] = [
        [*SYSTEM, *policy()],
        [Link("etc/hard", target="etc/conf"), File("usr/.wh.large"), File("usr/bin/deep/er/x")],
    ]
    found = labels(repo, commit_of(repo, tmp_path, layers))
    assert found["/usr/etc/hard"] == "etc_t"
    assert found["/usr/bin/deep"] == "usr_t"
    assert found["/usr/bin/deep/er/x"] == "bin_t"
    assert "/usr/large" not in found


def based(tmp_path: Path, derived: Sequence[list[Entry]]) -> Repo:
    """An image whose base is a labelled commit, imported; the repository that it is in."""
    source = create_repo(tmp_path / "source")
    commit = pulled(source, write_image(tmp_path / "base", [[*SYSTEM, *policy()]])).merge_commit
    layers = encapsulate(source, commit, 2)
    image = write_image(
        tmp_path / "layout", [*layers, *derived], labels=labels_of(commit, layers[-1]), tag="based"
    )
    target = create_repo(tmp_path / "target")
    target.set_ref("result", pulled(target, image).merge_commit)
    target.set_ref("base", commit)
    return target


def test_layers_on_a_commit_are_labelled_as_they_come_by_its_policy(
    tmp_path: Path, rewritten: list[str]
) -> None:
    source_writes = len(policy()) + len(SYSTEM)
    target = based(tmp_path, [[File("usr/bin/added"), File("etc/more")]])
    assert len(rewritten) <= source_writes  # for the source alone
    found = labels(target, "result")
    assert EXPECTED.items() <= found.items()
    assert (found["/usr/bin/added"], found["/usr/etc/more"]) == ("bin_t", "etc_t")
    subprocess.run(["ostree", f"--repo={target.path}", "fsck", "--quiet"], check=True)


def test_a_layer_that_changes_the_policy_labels_the_commit_below_too(tmp_path: Path) -> None:
    contexts = CONTEXTS.replace("bin_t", "other_t")
    target = based(tmp_path, [policy(contexts)])
    assert labels(target, "result")["/usr/bin/tool"] == "other_t"
    assert labels(target, "base")["/usr/bin/tool"] == "bin_t"
    subprocess.run(["ostree", f"--repo={target.path}", "fsck", "--quiet"], check=True)


def test_a_commit_with_nothing_on_top_keeps_its_makers_labels(tmp_path: Path) -> None:
    target = based(tmp_path, [])
    assert labels(target, "result") == labels(target, "base")
