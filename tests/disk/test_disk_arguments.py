from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bootc_build.cli.main import main
from bootc_build.disk.build import default_target, parse_target
from bootc_build.onhost.errors import UsageError
from bootc_build.tools.podman import LocalImage

IMAGE = LocalImage(
    id="ab" * 32,
    digest="sha256:" + "cd" * 32,
    names=("localhost/os:v1", "registry.example/team/os:v1"),
    labels={"containers.bootc": "1"},
    architecture="amd64",
    size_bytes=1,
    created=datetime(2026, 1, 1, tzinfo=UTC),
    layers=(),
    history=(),
)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--type", "floppy"], "'floppy' is not a type of disk"),
        (["--type", ","], "--type is empty"),
        (["--compression", "zlib"], "--compression is how qcow2 is compressed, and --type is raw"),
        (["--type", "vmdk,vhd", "--compression", "none"], "and --type is vmdk, vhd"),
        (["--size", "much"], "'much' is not a size"),
        (
            ["--size", "999999999T"],
            "--size is 999999999T, and the largest disk that can be made has 64",
        ),
        (["--size", "9" * 400 + "T"], "and the largest disk that can be made has 64 TiB"),
        (["--root-size", "3000T"], "--root-size is 3000T"),
        (["--updates", "5000000000"], "--updates is 5000000000"),
        (["--updates", "-1"], "--updates is -1"),
        (["--name", "../disk"], "'../disk' cannot be the name of a disk"),
        (["--target-imgref", "registry.example/OS:1"], "is not the name of an image"),
        (["--root-ssh-authorized-keys", "/nowhere/key"], "'/nowhere/key' cannot be read"),
    ],
)
def test_wrong_arguments_are_named_with_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["disk", "localhost/any", "--output", str(tmp_path / "out"), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("registry.example/team/os:v1", "docker://registry.example/team/os:v1"),
        ("os:v1", "docker://localhost/os:v1"),
        ("ab" * 32, "docker://localhost/os:v1"),
        ("ab" * 6, "docker://localhost/os:v1"),
    ],
)
def test_host_follows_the_images_own_name_by_default(name: str, target: str) -> None:
    assert default_target(name, IMAGE).skopeo == target


def test_an_image_without_a_name_needs_a_target() -> None:
    with pytest.raises(UsageError, match="has no name") as refused:
        default_target("ab" * 32, replace(IMAGE, names=()))
    assert "--target-imgref" in refused.value.remedy


@pytest.mark.parametrize(
    ("text", "skopeo"),
    [
        ("registry.example/os:v1", "docker://registry.example/os:v1"),
        ("10.0.2.2:5000/os:v1", "docker://10.0.2.2:5000/os:v1"),
        ("docker://registry.example/os:v1", "docker://registry.example/os:v1"),
        ("oci:/var/lib/os:v1", "oci:/var/lib/os:v1"),
        ("registry:5000/os", "docker://registry:5000/os"),
    ],
)
def test_target_is_a_registry_unless_it_says_otherwise(text: str, skopeo: str) -> None:
    assert parse_target(text).skopeo == skopeo
