"""Images that are an ostree commit split into layers, with and without ordinary layers on top."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.repo import Repo, create_repo
from tests.onhost.encapsulated_images import encapsulate, encapsulate_v0, labels_of, object_path
from tests.onhost.importing import Counted, content, listing, pulled, reference
from tests.onhost.oci_images import Dir, Entry, File, Link, WrittenImage, write_image

BIG = os.urandom(900_000)


@dataclass(frozen=True)
class Base:
    repo: Repo
    commit: str

    def object_of(self, path: str) -> str:
        """Checksum of a file."""
        command = ["ostree", f"--repo={self.repo.path}", "ls", "-C", self.commit, path]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[4]


@pytest.fixture
def base(tmp_path: Path) -> Base:
    """A small operating system as an ostree commit."""
    tree = tmp_path / "tree"
    for path in ("usr/bin", "usr/etc/conf.d", "usr/lib/modules/6", "sysroot/ostree", "var/lib"):
        (tree / path).mkdir(parents=True)
    (tree / "usr/lib").chmod(0o711)
    (tree / "usr/bin/tool").write_bytes(b"tool")
    (tree / "usr/bin/tool").chmod(0o4755)
    os.setxattr(tree / "usr/bin/tool", "user.note", b"hello")
    os.link(tree / "usr/bin/tool", tree / "usr/bin/again")
    (tree / "usr/bin/soft").symlink_to("..//bin/tool")
    (tree / "usr/big").write_bytes(BIG)
    (tree / "usr/empty").touch()
    (tree / "usr/etc/conf.d/a").write_text("a")
    (tree / "ostree").symlink_to("sysroot/ostree")
    for number in range(20):
        (tree / f"usr/lib/modules/6/{number}").write_text(str(number))
    repo = create_repo(tmp_path / "source")
    command = ["ostree", f"--repo={repo.path}", "commit", "--branch=base", f"--tree=dir={tree}"]
    done = subprocess.run(
        [*command, "--subject=base", "--add-metadata-string=version=43.1"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return Base(repo, done.stdout.strip())


def image_of(
    tmp_path: Path,
    base: Base,
    derived: Sequence[list[Entry]] = (),
    *,
    count: int = 4,
    tag: str = "1",
) -> WrittenImage:
    layers = encapsulate(base.repo, base.commit, count)
    return write_image(
        tmp_path / "layout", [*layers, *derived], labels=labels_of(base.commit, layers[-1]), tag=tag
    )


@pytest.mark.parametrize("count", [1, 4])
def test_the_commit_arrives_as_it_was(repo: Repo, base: Base, tmp_path: Path, count: int) -> None:
    image = image_of(tmp_path, base, count=count)
    merge = pulled(repo, image).merge_commit
    assert listing(repo, merge) == listing(base.repo, base.commit)
    assert content(repo, merge, "/usr/big") == BIG
    assert repo.resolve_ref(layer_ref(image.layer_digests[0])) == base.commit
    parent = ["ostree", f"--repo={repo.path}", "rev-parse", f"{merge}^"]
    assert subprocess.run(parent, check=True, capture_output=True, text=True).stdout.strip() == (
        base.commit
    )
    assert repo.commit_metadata(base.commit)["version"] == "43.1"
    out = tmp_path / "out"
    subprocess.run(["ostree", f"--repo={repo.path}", "checkout", "-H", merge, out], check=True)
    assert os.getxattr(out / "usr/bin/tool", "user.note") == b"hello"


def test_version_0_of_the_format_arrives_too(repo: Repo, base: Base, tmp_path: Path) -> None:
    layer = encapsulate_v0(base.repo, base.commit)
    image = write_image(tmp_path / "layout", [layer], labels=labels_of(base.commit, layer))
    merge = pulled(repo, image).merge_commit
    assert listing(repo, merge) == listing(base.repo, base.commit)


def test_layers_on_top_are_merged_onto_the_commit(repo: Repo, base: Base, tmp_path: Path) -> None:
    tool = object_path(base.object_of("/usr/bin/tool"), "file")
    changed = object_path(base.object_of("/usr/big"), "file")
    derived: list[list[Entry]] = [
        [Dir("usr"), File("usr/new", data=b"new"), File("etc/conf.d/b"), File("usr/bin/.wh.soft")],
        [
            Link("usr/linked", target=tool),
            # Written through one of its names, a file comes as the object that it was.
            File(changed, data=b"changed"),
            Link("usr/big", target=changed),
            File("usr/lib/modules/.wh..wh..opq"),
        ],
    ]
    merge = pulled(repo, image_of(tmp_path, base, derived)).merge_commit
    found, before = listing(repo, merge), listing(base.repo, base.commit)
    assert set(found) - set(before) == {"/usr/new", "/usr/etc/conf.d/b", "/usr/linked"}
    gone = {path for path in before if path.startswith("/usr/lib/modules/")}
    assert set(before) - set(found) == {"/usr/bin/soft", *gone}
    assert found["/usr/linked"] == before["/usr/bin/tool"]
    assert content(repo, merge, "/usr/big") == b"changed"
    assert found["/usr/lib"] == "d00711 0 0 0"


def test_a_new_layer_on_the_same_base_fetches_that_layer_alone(
    repo: Repo, base: Base, tmp_path: Path
) -> None:
    pulled(repo, image_of(tmp_path, base, [[File("usr/a")]]))
    progress = Counted()
    merge = pulled(repo, image_of(tmp_path, base, [[File("usr/b")]], tag="2"), progress)
    assert progress.fetched == 1
    assert "/usr/b" in listing(repo, merge.merge_commit)


def test_an_interrupted_base_is_partial_and_the_next_pull_goes_on(
    repo: Repo, base: Base, tmp_path: Path
) -> None:
    class Stop(Counted):
        def step(self, text: str) -> None:
            super().step(text)
            if "layer 3" in text:
                raise KeyboardInterrupt

    image = image_of(tmp_path, base)
    with pytest.raises(KeyboardInterrupt):
        pulled(repo, image, Stop())
    subprocess.run(["ostree", f"--repo={repo.path}", "fsck", "--quiet"], check=True)
    progress = Counted()
    merge = pulled(repo, image, progress).merge_commit
    assert progress.fetched == 2
    assert listing(repo, merge) == listing(base.repo, base.commit)


def spoilt(layers: list[list[Entry]], path: str, data: bytes) -> list[list[Entry]]:
    """The layers with another content of one object."""
    return [
        [File(path, data=data) if entry.path == path else entry for entry in layer]
        for layer in layers
    ]


def test_objects_that_are_not_what_their_name_says_are_refused(
    repo: Repo, base: Base, tmp_path: Path
) -> None:
    layers = encapsulate(base.repo, base.commit, 2)
    kinds = ("commit", "dirtree", "dirmeta", "file-xattrs", "file")
    for kind in kinds:
        entry = next(e for layer in layers for e in layer if e.path.endswith(f".{kind}"))
        bad = spoilt(layers, entry.path, b"something else")
        image = write_image(tmp_path / kind, bad, labels=labels_of(base.commit, bad[-1]))
        with pytest.raises(UserError, match="under the name") as caught:
            pulled(repo, image)
        assert "Layer " in caught.value.fact
        assert image_ref(reference(image)) not in repo.refs("ostree/container")


def test_a_commit_of_which_something_is_missing_is_refused(
    repo: Repo, base: Base, tmp_path: Path
) -> None:
    wanted = object_path(base.object_of("/usr/big"), "file")
    layers = [
        [entry for entry in layer if wanted not in (entry.path, getattr(entry, "target", ""))]
        for layer in encapsulate(base.repo, base.commit, 2)
    ]
    image = write_image(tmp_path / "layout", layers, labels=labels_of(base.commit, layers[-1]))
    with pytest.raises(UserError, match="'/usr/big' is in none of its layers"):
        pulled(repo, image)


def test_another_commit_than_the_label_names_is_refused(
    repo: Repo, base: Base, tmp_path: Path
) -> None:
    layers = encapsulate(base.repo, base.commit, 2)
    labels = {**labels_of(base.commit, layers[-1]), "ostree.commit": "0" * 64}
    with pytest.raises(UserError, match="says that it is the ostree commit 000"):
        pulled(repo, write_image(tmp_path / "layout", layers, labels=labels))


def test_a_label_of_a_layer_that_is_not_there_is_refused(
    repo: Repo, base: Base, tmp_path: Path
) -> None:
    layers = encapsulate(base.repo, base.commit, 2)
    labels = labels_of(base.commit, [File("usr/other")])
    with pytest.raises(UserError, match=r"ostree\.final-diffid"):
        pulled(repo, write_image(tmp_path / "layout", layers, labels=labels))
