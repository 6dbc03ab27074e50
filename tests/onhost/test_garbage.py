"""Which refs go, and that objects go with them."""

import subprocess
from pathlib import Path

from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.images import (
    GarbagePlan,
    collect_garbage,
    drop_unneeded_refs,
    plan_garbage,
)
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.progress import Silent
from bootc_build.onhost.pull import PulledImage, pull
from tests.onhost.oci_images import Dir, File, WrittenImage, write_image

OLD = ImageReference("registry", "registry.test/os:old")
NEW = ImageReference("registry", "registry.test/os:new")


def pulled(repo: Repo, image: WrittenImage, target: ImageReference) -> PulledImage:
    source = ImageReference.parse_transport_qualified(image.skopeo)
    return pull(repo, source, progress=Silent(), target=target)


def two_images(repo: Repo, tmp_path: Path) -> tuple[PulledImage, PulledImage]:
    base = [Dir("usr"), File("usr/base", data=b"base")]
    old = write_image(tmp_path / "old", [base, [File("usr/old", data=b"old" * 999)]])
    new = write_image(tmp_path / "new", [base, [File("usr/new", data=b"new" * 999)]])
    return pulled(repo, old, OLD), pulled(repo, new, NEW)


def test_layers_of_deployed_commits_stay_even_without_a_ref() -> None:
    digest = "sha256:" + "1" * 64
    plan = plan_garbage({}, [layer_ref(digest)], [], {"c": [digest]}, ["c"])
    assert plan == GarbagePlan((), ())


def test_what_no_deployment_was_made_from_goes(repo: Repo, tmp_path: Path) -> None:
    old, new = two_images(repo, tmp_path)
    removed = collect_garbage(repo, needed_images=[NEW], deployed=[new.merge_commit])
    assert (removed.images, removed.layers) == (1, 1)
    assert removed.objects.objects_removed > 0
    assert set(repo.refs("ostree/container")) == {
        image_ref(NEW),
        *(layer_ref(layer.digest) for layer in new.manifest.layers),
    }
    assert not repo.has_commit(old.merge_commit)


def test_everything_that_is_deployed_stays(repo: Repo, tmp_path: Path) -> None:
    old, new = two_images(repo, tmp_path)
    before = repo.refs("ostree/container")
    removed = collect_garbage(
        repo, needed_images=[OLD, NEW], deployed=[old.merge_commit, new.merge_commit]
    )
    assert (removed.images, removed.layers, removed.objects.objects_removed) == (0, 0, 0)
    assert repo.refs("ostree/container") == before


def test_a_deployment_without_a_commit_hinders_nothing(repo: Repo, tmp_path: Path) -> None:
    _old, new = two_images(repo, tmp_path)
    removed = collect_garbage(repo, needed_images=[NEW], deployed=[new.merge_commit, "0" * 64])
    assert removed.images == 1


def test_a_base_image_that_a_tool_guards_stays(repo: Repo, tmp_path: Path) -> None:
    old, new = two_images(repo, tmp_path)
    repo.set_ref("ostree/container/baseimage/tool/0", old.merge_commit)
    removed = collect_garbage(repo, needed_images=[NEW], deployed=[new.merge_commit])
    assert (removed.images, removed.layers) == (1, 0)
    assert repo.has_commit(old.merge_commit)


def test_upstreams_guard_of_a_base_lasts_as_long_as_its_deployment(
    repo: Repo, tmp_path: Path
) -> None:
    old, new = two_images(repo, tmp_path)
    guard = "ostree/container/baseimage/bootc/0"
    repo.set_ref(guard, old.merge_commit)
    command = ["ostree", f"--repo={repo.path}", "commit", "--orphan", "--owner-uid=0"]
    command += [f"--parent={old.merge_commit}", f"--tree=ref={old.merge_commit}", "--no-bindings"]
    derived = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    collect_garbage(repo, needed_images=[NEW], deployed=[new.merge_commit, derived])
    assert guard in repo.refs("ostree/container")
    removed = collect_garbage(repo, needed_images=[NEW], deployed=[new.merge_commit])
    assert guard not in repo.refs("ostree/container")
    assert removed.layers == 1
    assert not repo.has_commit(old.merge_commit)


def test_layers_of_an_interrupted_fetch_stay_where_they_are_wanted_again(
    repo: Repo, tmp_path: Path
) -> None:
    old, new = two_images(repo, tmp_path)
    half = layer_ref("sha256:" + "5" * 64)
    repo.set_ref(half, repo.resolve_ref(layer_ref(new.manifest.layers[0].digest)))
    plan = drop_unneeded_refs(
        repo, needed_images=[NEW], deployed=[new.merge_commit], keep_unfinished=True
    )
    assert plan.layers == (layer_ref(old.manifest.layers[1].digest),)
    assert half in repo.refs("ostree/container")
    drop_unneeded_refs(repo, needed_images=[NEW], deployed=[new.merge_commit])
    assert half not in repo.refs("ostree/container")
