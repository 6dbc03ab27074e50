"""What an image says about its own installation, kept or refused."""

from dataclasses import replace

import pytest

from bootc_build.config.record import ConfigurationError
from bootc_build.disk.identity import Identity
from bootc_build.disk.image_install import (
    install_problems,
    raise_found,
    root_mount_spec,
    stateroot,
)
from bootc_build.disk.wanted import Group, Layout
from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.install.configuration import InstallConfiguration, merge

IDENTITY = Identity.derive("sha256:" + "a" * 64, {})
LAYOUT = Layout(root_label="system")
ON_A_VOLUME = replace(LAYOUT, group=Group("vg", root="system"))
BY_UUID = f"UUID={IDENTITY.root_uuid}"


def install(*lines: str) -> InstallConfiguration:
    return merge([("/usr/lib/bootc/install/10-a.toml", "\n".join(("[install]", *lines)))], "x86_64")


# A line of the image's file, and what is said of it.
REFUSED = {
    "encryption": ('block = ["tpm2-luks"]', "'install.block' asks for an encrypted root (tpm2-luks)"),
    "no boot loader": ('bootloader = "none"', "'install.bootloader' is none"),
    "another boot loader": ('bootloader = "systemd"', "'install.bootloader' is systemd"),
    "unknown root": ('root-mount-spec = "LABEL=xyz"', "'install.root-mount-spec' is 'LABEL=xyz'"),
    "no root": ('root-mount-spec = ""', "'install.root-mount-spec' is ''"),
    "/boot": ('boot-mount-spec = "LABEL=boot"', "'install.boot-mount-spec' is 'LABEL=boot'"),
    "discovery": ("discoverable-partitions = true", "'install.discoverable-partitions' is true"),
    "stateroot": ('stateroot = "../x"', "'install.stateroot' is '../x'"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "said"), REFUSED.values(), ids=REFUSED)
def test_what_a_disk_cannot_keep_is_refused_by_file_and_key(line: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        raise_found(install_problems(install(line), LAYOUT))
    assert refused.value.fact.startswith(f"/usr/lib/bootc/install/10-a.toml of the image: {said}")
    assert refused.value.remedy


KEPT = {
    "nothing": "",
    "GRUB": 'bootloader = "grub"',
    "unencrypted, or not": 'block = ["direct", "tpm2-luks"]',
    "the root's label": 'root-mount-spec = "LABEL=system"',
    "what the installer does by itself": 'kargs = ["a"]\nkarg-deletes = ["b"]',
    "stateroot": 'stateroot = "debian"',
}


@pytest.mark.parametrize("line", KEPT.values(), ids=KEPT)
def test_what_a_disk_can_keep_is_taken(line: str) -> None:
    assert list(install_problems(install(line), LAYOUT)) == []


@pytest.mark.parametrize(
    ("said", "layout", "found"),
    [
        (None, LAYOUT, BY_UUID),
        ("LABEL=system", LAYOUT, "LABEL=system"),
        ("PARTLABEL=root", LAYOUT, "PARTLABEL=root"),
        ("LABEL=system", ON_A_VOLUME, "LABEL=system"),
    ],
)
def test_the_root_is_found_as_the_image_says_or_by_its_uuid(
    said: str | None, layout: Layout, found: str
) -> None:
    wanted = InstallConfiguration(root_mount_spec=said)
    assert root_mount_spec(wanted, IDENTITY, layout) == found
    assert list(install_problems(wanted, layout)) == []


def test_a_logical_volume_is_in_no_partition_table() -> None:
    wanted = InstallConfiguration(root_mount_spec="PARTLABEL=root")
    [(_where, problem)] = install_problems(wanted, ON_A_VOLUME)
    assert problem.path == "install.root-mount-spec"


def test_the_stateroot_is_the_images() -> None:
    assert stateroot(InstallConfiguration()) == "default"
    assert stateroot(install('stateroot = "debian"')) == "debian"


def test_problems_of_several_files_are_told_together() -> None:
    files = [
        (f"/etc/bootc/install/{name}.toml", f"[install]\n{line}\n")
        for name, line in (("a", 'bootloader = "none"'), ("b", 'boot-mount-spec = "LABEL=x"'))
    ]
    with pytest.raises(UsageError) as refused:
        raise_found(install_problems(merge(files, "x86_64"), LAYOUT))
    assert "/etc/bootc/install/a.toml of the image: 'install.bootloader'" in str(refused.value)
    assert "/etc/bootc/install/b.toml of the image: 'install.boot-mount-spec'" in str(refused.value)
