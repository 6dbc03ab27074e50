"""What an image brings along for its disks, and what a configuration asks of it that it has not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.cli.main import main
from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.tools.buildah import remove_image
from bootc_build.tools.e2fsprogs import read_file
from tests.disk.configured_disks import (
    Steps,
    configurable_image,
    make,
    with_files,
)
from tests.disk.installed_trees import DEPLOYMENT


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with configurable_image(tmp_path_factory.mktemp("image")) as tag:
        yield tag


def test_what_the_image_brings_along_counts_unless_a_file_is_given(
    image: str, tmp_path: Path
) -> None:
    text = """
    [[customizations.filesystem]]
    mountpoint = "/var/data"
    minsize = "300 MiB"
    [customizations.kernel]
    append = "from-the-image"
    """
    older = "[[customizations.filesystem]]\nmountpoint = '/var/old'\nminsize = 100\n"
    tag = with_files(
        image,
        {
            "usr/lib/image-builder/bootc/config.toml": text,
            "usr/lib/bootc-image-builder/config.toml": older,
            "usr/lib/bootc/install/10-root.toml": "[install]\nroot-fs-type = 'btrfs'\n",
        },
    )
    try:
        theirs = make(tag, tmp_path / "theirs", "", configuration=None)
        assert "data" in theirs.places
        assert theirs.probe("root")["TYPE"] == "btrfs"
        ours = make(tag, tmp_path / "ours", "root: {filesystem: ext4}")
        assert "data" not in ours.places
        assert "from-the-image" not in read_file(ours.ext4("root"), "/arguments")
    finally:
        remove_image(tag)


INSTALL = """
[install]
stateroot = "debian"
root-mount-spec = "LABEL=system"
"""


def test_stateroot_and_name_of_the_root_are_those_that_the_image_says(
    image: str, tmp_path: Path
) -> None:
    tag = with_files(image, {"usr/lib/bootc/install/10-mine.toml": INSTALL})
    text = "root: {label: system}\nhostname: node1\nfilesystems: [{mountpoint: /home, size: 99M}]"
    try:
        disk = make(tag, tmp_path, text)
    finally:
        remove_image(tag)
    root = disk.ext4("root")
    told = read_file(root, "/arguments")
    assert "--root-mount-spec LABEL=system --boot-mount-spec UUID=" in told
    assert "--stateroot debian" in told
    deployment = DEPLOYMENT.replace("default", "debian", 1)
    assert read_file(root, f"/{deployment}/etc/hostname") == "node1\n"
    assert read_file(disk.ext4("home"), "/of-the-image") == "moves along\n"


def test_what_a_disk_cannot_keep_of_the_images_wishes_is_refused_at_once(
    image: str, tmp_path: Path
) -> None:
    wishes = "[install]\nbootloader = 'none'\nroot-mount-spec = 'LABEL=xyz'\n"
    tag = with_files(image, {"usr/lib/bootc/install/10-mine.toml": wishes})
    try:
        with pytest.raises(UsageError) as refused:
            make(tag, tmp_path / "out", "")
    finally:
        remove_image(tag)
    said = str(refused.value)
    assert "/usr/lib/bootc/install/10-mine.toml of the image has 2 errors" in said
    assert "'install.bootloader' is none" in said
    assert "'install.root-mount-spec' is 'LABEL=xyz'" in said
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"customizations": {"rpm": {"x": 1}}}',
            r"/usr/lib/bootc-image-builder/config\.json of the image",
        ),
        ('{"architecture": "aarch64"}', "for arm64"),
    ],
)
def test_a_wrong_file_in_the_image_is_refused(
    image: str, tmp_path: Path, text: str, said: str
) -> None:
    tag = with_files(image, {"usr/lib/bootc-image-builder/config.json": text})
    try:
        with pytest.raises(UsageError, match=said):
            make(tag, tmp_path / "out", "", configuration=None)
    finally:
        remove_image(tag)


# A configuration that is right by itself but not for this image, and what is said.
NOT_FOR_THIS_IMAGE = {
    "architecture": ("architecture: arm64", "The configuration is for arm64 ('architecture')"),
    "shell": ("users: [{name: a, shell: /bin/zsh}]", "'users[0].shell' is /bin/zsh, and the image"),
    "keymap": ("keyboard: de", "'keyboard' is de, and the image has no such keymap"),
    "locale": ("locale: de_DE.UTF-8", "'locale' is de_DE.UTF-8, and the image has no such locale"),
    "time zone": (
        "timezone: Mars/Olympus",
        "'timezone' is Mars/Olympus, and the image has no /usr",
    ),
    "time servers": ("ntp-servers: [a]", "'ntp-servers' is a, and the image has no systemd-times"),
    "SSH server": ("sshd: {root-login: 'no'}", "'sshd' is there, and the image has no SSH server"),
    "unit": (
        "services: {enabled: [nil]}",
        "'services.enabled[0]' is nil, and the image has no unit",
    ),
    "group": ("users: [{name: a, groups: [wheel]}]", "'users[0].groups[0]' is wheel, which is"),
    "password": (
        "users: [{name: www, password: x}]",
        "'users[0].password' is there, and the image",
    ),
    "owner": ("files: [{path: /etc/x, owner: bob}]", "'files[0].owner' is bob, and neither"),
    "folder above": (
        "directories: [{path: /etc/a/b}]",
        "'directories[0].path' is /etc/a/b, and the",
    ),
    "root that is too small": ("root: {size: 4 MiB}", "root.size"),
    "disk that is too small": ("size: 1 GiB", "too small for this image"),
}


@pytest.mark.parametrize(("text", "said"), NOT_FOR_THIS_IMAGE.values(), ids=NOT_FOR_THIS_IMAGE)
def test_what_the_image_does_not_have_is_told_and_nothing_is_left(
    image: str, tmp_path: Path, text: str, said: str
) -> None:
    steps = Steps()
    with pytest.raises(UserError) as refused:
        make(image, tmp_path / "out", text, steps)
    assert said in str(refused.value)
    assert refused.value.remedy
    assert not [step for step in steps.told if "installer" in step]
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


WRONG_BLUEPRINT = """
[customizations]
hostname = "node1"
[[customizations.user]]
name = "alice"
groups = ["wheel"]
[[customizations.files]]
path = "/home/alice/.config/x"
user = "nobody-here"
[customizations.services]
enabled = ["nothing"]
"""


def test_everything_that_the_image_lacks_is_told_at_once_by_the_files_own_keys(
    image: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(WRONG_BLUEPRINT)
    out = tmp_path / "out"
    target = ["--target-imgref", "a.example/b", "--output", str(out)]
    assert main(["disk", image, "--config", str(file), *target]) == 2
    said = capsys.readouterr().err
    assert f"{file} has 3 errors" in said
    for key in ("user[0].groups[0]", "files[0].user", "services.enabled[0]"):
        assert f"'customizations.{key}' is " in said
    assert list(out.iterdir()) == []
