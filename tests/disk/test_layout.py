from pathlib import Path

import pytest

from bootc_build.config.disk import DiskConfiguration, ExtraFileSystem, Root, Subvolume, VolumeGroup
from bootc_build.config.record import Problem
from bootc_build.disk.layout import Overrides, image_layout, layout_problems, root_flags
from bootc_build.disk.wanted import Group
from bootc_build.onhost.install.configuration import InstallConfiguration
from bootc_build.tools.sizes import GIB


@pytest.fixture
def image(tmp_path: Path) -> Path:
    for folder in ("var/home", "data", "full/of", "usr/lib/opt"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "home").symlink_to("var/home")
    (tmp_path / "opt").symlink_to("usr/lib/opt")
    modules = tmp_path / "usr/lib/modules/6.12"
    (modules / "kernel/fs/btrfs").mkdir(parents=True)
    (modules / "kernel/fs/btrfs/btrfs.ko.xz").touch()
    (modules / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    return tmp_path


def extra(point: str, **more: str) -> DiskConfiguration:
    return DiskConfiguration(
        filesystems=(ExtraFileSystem.model_validate({"mountpoint": point, "size": GIB, **more}),)
    )


@pytest.mark.parametrize(
    ("wanted", "installed", "flag", "found"),
    [
        (None, None, None, "ext4"),
        (None, "btrfs", None, "btrfs"),
        ("ext4", "btrfs", None, "ext4"),
        ("ext4", None, "btrfs", "btrfs"),
    ],
)
def test_file_system_of_the_root_is_the_flags_then_the_users_then_the_images(
    image: Path, wanted: str | None, installed: str | None, flag: str | None, found: str
) -> None:
    configuration = DiskConfiguration(root=Root.model_validate({"filesystem": wanted}))
    asked = Overrides(filesystem=flag).over(configuration)  # type: ignore[arg-type]
    layout = image_layout(asked, image, InstallConfiguration(root_fs_type=installed))
    assert layout.filesystem == found


def test_flags_come_before_the_file() -> None:
    file = DiskConfiguration(root=Root(minimum_size=5 * GIB), updates=3)
    found = Overrides(root_size=2 * GIB, updates=0).over(file)
    assert (found.root.size, found.root.minimum_size, found.updates) == (2 * GIB, None, 0)
    assert Overrides().over(file) == file


def test_a_mount_point_is_where_the_images_links_lead(image: Path) -> None:
    [found] = image_layout(extra("/home"), image, InstallConfiguration()).extras
    assert (found.mountpoint, found.label, found.name) == ("/var/home", "home", "home")


def test_a_further_file_system_is_of_the_roots_type_unless_it_says_another(image: Path) -> None:
    root = InstallConfiguration(root_fs_type="btrfs")
    assert image_layout(extra("/var/x"), image, root).extras[0].filesystem == "btrfs"
    said = extra("/var/x", filesystem="ext4")
    assert image_layout(said, image, root).extras[0].filesystem == "ext4"


# Configuration, and what is said of it for this image.
REFUSED = {
    "no folder": (extra("/nowhere"), "filesystems[0].mountpoint", "no folder /nowhere"),
    "files below": (extra("/full"), "filesystems[0].mountpoint", "files in /full"),
    "link into the image": (
        extra("/opt"),
        "filesystems[0].mountpoint",
        "is /opt, and it leads to /usr/lib/opt",
    ),
    "links to one place": (
        DiskConfiguration(filesystems=extra("/home").filesystems + extra("/var/home").filesystems),
        "filesystems[1].mountpoint",
        "is /var/home, and so is another: links of the image lead both to /var/home",
    ),
    "label": (
        extra("/var/x", label="seventeen-letters"),
        "filesystems[0].label",
        "too long for ext4",
    ),
    "root's label": (
        DiskConfiguration(root=Root(label="seventeen-letters")),
        "root.label",
        "too long for ext4",
    ),
    "kernel": (extra("/var/x", filesystem="xfs"), "filesystems[0].filesystem", "no module for xfs"),
    "kernel, for the root": (
        DiskConfiguration(root=Root(filesystem="xfs")),
        "root.filesystem",
        "no module for xfs",
    ),
}


def problems(wanted: DiskConfiguration, image: Path) -> list[Problem]:
    layout = image_layout(wanted, image, InstallConfiguration())
    return list(layout_problems(layout, wanted, image))


@pytest.mark.parametrize(("wanted", "key", "said"), REFUSED.values(), ids=REFUSED)
def test_what_the_image_cannot_do_is_told_by_key(
    image: Path, wanted: DiskConfiguration, key: str, said: str
) -> None:
    [problem] = problems(wanted, image)
    assert problem.path == key
    assert said in problem.fact
    assert problem.remedy


@pytest.mark.parametrize(
    "wanted", [DiskConfiguration(), extra("/home"), extra("/data"), extra("/var")]
)
def test_what_the_image_can_do_is_no_problem(image: Path, wanted: DiskConfiguration) -> None:
    assert problems(wanted, image) == []


SUBVOLUMES = (
    Subvolume(name="root", mountpoint="/"),
    Subvolume(name="home", mountpoint="/home"),
)


def test_subvolumes_are_mounted_where_links_lead_and_the_kernel_is_told(image: Path) -> None:
    wanted = DiskConfiguration(root=Root(filesystem="btrfs", subvolumes=SUBVOLUMES))
    layout = image_layout(wanted, image, InstallConfiguration())
    assert [(each.name, each.mountpoint) for each in layout.subvolumes] == [
        ("root", "/"),
        ("home", "/var/home"),
    ]
    assert root_flags(layout) == ("rootflags=subvol=root",)
    assert layout.mountpoints == ["/var/home"]
    assert root_flags(image_layout(DiskConfiguration(), image, InstallConfiguration())) == ()


def test_only_btrfs_has_subvolumes(image: Path) -> None:
    wanted = DiskConfiguration(root=Root(subvolumes=SUBVOLUMES))
    [problem] = problems(wanted, image)
    assert (problem.path, problem.fact) == (
        "root.subvolumes",
        "is there, and the root's file system is ext4",
    )


def test_a_volume_group_needs_an_image_with_lvm(image: Path) -> None:
    wanted = DiskConfiguration(
        volume_group=VolumeGroup(name="vg", minimum_size=5 * GIB),
        root=Root(volume="system"),
        filesystems=(ExtraFileSystem(mountpoint="/var/x", size=GIB, volume="x"),),
    )
    [problem] = problems(wanted, image)
    assert (problem.path, problem.fact) == ("volume-group", "is there, and the image has no LVM")
    assert "lvm2" in problem.remedy
    (image / "usr/sbin").mkdir()
    (image / "usr/sbin/lvm").touch()
    layout = image_layout(wanted, image, InstallConfiguration())
    assert layout.group == Group("vg", 5 * GIB, root="system")
    assert layout.extras[0].volume == "x"
    assert root_flags(layout) == ("rd.lvm.lv=vg/system",)
