"""``bootc/install/*.toml``: which files count, how they merge, what is refused."""

import json
from pathlib import Path

import pytest

from bootc_build.onhost.cli.main import main
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.install.configuration import (
    InstallConfiguration,
    load_configuration,
    merge,
    parse,
)


def put(root: Path, where: str, name: str, text: str) -> None:
    folder = root / where / "bootc/install"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_nothing_is_configured_without_files(tmp_path: Path) -> None:
    assert load_configuration(tmp_path) == InstallConfiguration()


def test_later_names_win_and_kernel_arguments_add_up(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib", "00-base.toml", '[install]\nroot-fs-type = "xfs"\nkargs = ["a"]\n')
    put(tmp_path, "usr/lib", "50-mine.toml", '[install]\nkargs = ["b"]\nstateroot = "mine"\n')
    put(tmp_path, "etc", "20-site.toml", '[install.filesystem.root]\ntype = "btrfs"\n')
    found = load_configuration(tmp_path)
    assert found.kargs == ("a", "b")
    assert found.root_fs_type == "btrfs"
    assert found.stateroot == "mine"
    assert found.block == ("direct",)


def test_a_file_hides_one_of_its_name_in_an_earlier_directory(tmp_path: Path) -> None:
    for where in ("usr/lib", "usr/local/lib", "etc", "run"):
        put(tmp_path, where, "10-x.toml", f'[install]\nkargs = ["{where}"]\n')
        assert load_configuration(tmp_path).kargs == (where,)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc/bootc/install/10-x.toml").mkdir(parents=True)
    with pytest.raises(UserError, match=r"/10-x.toml cannot be read: Is a directory\.$"):
        load_configuration(tmp_path)
    (tmp_path / "etc/bootc/install/10-x.toml").rmdir()
    (tmp_path / "etc/bootc/install/10-x.toml").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"/10-x.toml is no text: .*\nWrite it in UTF-8"):
        load_configuration(tmp_path)


def test_a_link_to_dev_null_masks(tmp_path: Path) -> None:
    put(tmp_path, "usr/lib", "10-x.toml", '[install]\nkargs = ["x"]\n')
    folder = tmp_path / "etc/bootc/install"
    folder.mkdir(parents=True)
    (folder / "10-x.toml").symlink_to("/dev/null")
    assert load_configuration(tmp_path).kargs == ()


def test_the_new_spelling_of_the_root_file_system_wins() -> None:
    old = '[install]\nroot-fs-type = "ext4"\n[install.filesystem.root]\ntype = "xfs"\n'
    assert merge([("a.toml", old)]).root_fs_type == "xfs"


def test_other_architectures_are_left_out() -> None:
    text = '[install]\nkargs = ["x"]\nmatch-architectures = ["aarch64"]\n'
    assert merge([("a.toml", text)], "x86_64") == InstallConfiguration()
    assert merge([("a.toml", text)], "aarch64").kargs == ("x",)


def test_a_system_for_another_machine_has_that_machines_configuration(tmp_path: Path) -> None:
    for machine in ("x86_64", "aarch64"):
        text = f'[install]\nstateroot = "{machine}"\nmatch-architectures = ["{machine}"]\n'
        put(tmp_path, "usr/lib", f"{machine}.toml", text)
    for machine in ("x86_64", "aarch64"):
        found = load_configuration(tmp_path, machine)
        assert found.stateroot == machine
        assert found.origins == {"stateroot": f"/usr/lib/bootc/install/{machine}.toml"}


@pytest.mark.parametrize(
    ("text", "fact", "remedy"),
    [
        ('[install]\nroot-fs = "xfs"\n', "/etc/a.toml has the unknown key 'install.root-fs'", "root-fs-type"),
        ("[install.filesystem.boot]\n", "unknown key 'install.filesystem.boot'", "Known there: root."),
        ("[other]\n", "unknown key 'other'", "[install]"),
        ('[install]\nroot-fs-type = "zfs"\n', "'install.root-fs-type' is \"zfs\"", '"xfs" or "ext4" or "btrfs"'),
        ('[install]\nkargs = "a b"\n', "'install.kargs' is \"a b\"", "a list of: a text"),
        ('[install]\nblock = ["lvm"]\n', "'install.block' is [\"lvm\"]", '"direct" or "tpm2-luks"'),
        ("[install]\ndiscoverable-partitions = 1\n", "'install.discoverable-partitions' is 1", "true or false"),
        ("[install]\nfilesystem = 1\n", "'install.filesystem' is not a table", ""),
        ("[install\n", "/etc/a.toml is not valid TOML", ""),
    ],
)  # fmt: skip
def test_errors_name_file_key_and_what_is_allowed(text: str, fact: str, remedy: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text, "/etc/a.toml")
    assert "/etc/a.toml" in caught.value.fact
    assert fact in caught.value.fact
    assert remedy in caught.value.remedy


def test_document_has_upstreams_keys_and_arguments_on_demand_only() -> None:
    found = merge(
        [
            (
                "a.toml",
                '[install]\nkargs = ["a"]\n[install.ostree]\nbls-append-except-default = "x"\n',
            )
        ]
    )
    short = json.loads(found.to_json(everything=False))
    assert set(short) == {
        "root-fs-type", "block", "filesystem", "match-architectures", "ostree", "stateroot",
        "root-mount-spec", "boot-mount-spec", "bootupd", "bootloader", "discoverable-partitions",
        "enforce-container-sigpolicy",
    }  # fmt: skip
    assert short["ostree"] == {"bls-append-except-default": "x"}
    assert short["block"] == ["direct"]
    assert json.loads(found.to_json(everything=True)) == {**short, "kargs": ["a"]}


def test_print_configuration_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "print-configuration", "--all"]) == 0
    assert "root-fs-type" in json.loads(capsys.readouterr().out)
