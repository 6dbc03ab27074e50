from pathlib import Path

import pytest

from bootc_build.disk.settings.deployment import Deployment, MachineFile
from bootc_build.onhost.errors import UserError


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    root = tmp_path / "ostree/deploy/default/deploy/0123.0"
    for folder in ("etc/default", "usr/lib/opt", "var", "data"):
        (root / folder).mkdir(parents=True)
    for name, aim in {
        "home": "var/home",
        "root": "/var/roothome",
        "opt": "usr/lib/opt",
        "escape": "../../../../../../../../etc",
        "loop": "loop/x",
    }.items():
        (root / name).symlink_to(aim)
    (tmp_path / "ostree/deploy/default/var/home").mkdir(parents=True)
    (tmp_path / "ostree/deploy/default/deploy/0123.0.origin").touch()
    found = Deployment.find(tmp_path)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("/etc/x", "/etc/x"),
        ("/home/alice/x", "/var/home/alice/x"),
        ("/root/.ssh", "/var/roothome/.ssh"),
        ("/home/.", "/var/home"),
        ("/home", "/home"),
        ("/opt/x", "/usr/lib/opt/x"),
        ("/escape/passwd", "/etc/passwd"),
        ("/etc/../../../var/x", "/var/x"),
    ],
)
def test_links_are_followed_as_the_machine_does_and_never_out_of_it(
    deployment: Deployment, path: str, resolved: str
) -> None:
    assert deployment.resolve(path) == resolved


def test_links_that_go_round_are_told(deployment: Deployment) -> None:
    with pytest.raises(UserError, match="lead around for ever"):
        deployment.resolve("/loop/x")


def test_var_is_the_stateroots(deployment: Deployment) -> None:
    deployment.write(MachineFile("/home/notes", "mine\n"))
    assert (deployment.var / "home/notes").read_text() == "mine\n"
    assert list((deployment.root / "var").iterdir()) == []


@pytest.mark.parametrize("path", ["/usr/x", "/opt/x", "/data/x", "/x"])
def test_the_images_own_places_are_refused(deployment: Deployment, path: str) -> None:
    with pytest.raises(UserError, match="belongs to the image") as refused:
        deployment.write(MachineFile(path, ""))
    assert "Containerfile" in refused.value.remedy


def test_a_file_that_is_a_hard_link_into_the_repository_is_replaced_not_changed(
    deployment: Deployment, tmp_path: Path
) -> None:
    stored = tmp_path / "object"
    stored.write_text("of the image\n")
    (deployment.root / "etc/file").hardlink_to(stored)
    deployment.write(MachineFile("/etc/file", "of the machine\n", mode=0o600, uid=12, gid=34))
    assert stored.read_text() == "of the image\n"
    status = (deployment.root / "etc/file").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o600, 12, 34)
    names = {path.name for path in (deployment.root / "etc").iterdir()}
    assert names == {"default", "file"}


def test_a_link_of_the_image_is_replaced_not_written_through(deployment: Deployment) -> None:
    (deployment.root / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    deployment.link("/etc/localtime", "../usr/share/zoneinfo/Europe/Berlin")
    place = deployment.root / "etc/localtime"
    assert str(place.readlink()) == "../usr/share/zoneinfo/Europe/Berlin"
    deployment.write(MachineFile("/etc/localtime", "text"))
    assert not place.is_symlink()


def test_folders_are_made_with_their_owners_and_refused_where_they_cannot_be(
    deployment: Deployment,
) -> None:
    deployment.make_folder("/etc/a/b", mode=0o750, uid=5, gid=6, parents=True)
    status = (deployment.root / "etc/a/b").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o750, 5, 6)
    assert (deployment.root / "etc/a").stat().st_mode & 0o7777 == 0o755
    with pytest.raises(UserError, match="The folder above /etc/c/d is not there"):
        deployment.make_folder("/etc/c/d", mode=0o755, uid=0, gid=0, parents=False)
    with pytest.raises(UserError, match="/etc/default is a folder"):
        deployment.write(MachineFile("/etc/default", ""))


def test_an_empty_tree_has_no_deployment(tmp_path: Path) -> None:
    assert Deployment.find(tmp_path) is None
