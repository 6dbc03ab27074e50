"""What goes into a base image is decided before anything is touched."""

import pytest

from bootc_build.image.base_plan import (
    SUITES,
    VARIANTS,
    Archive,
    BasePlan,
    Source,
    check_suite,
    plan_base,
)
from bootc_build.onhost.errors import UsageError

ARCHIVE = Archive("http://mirror.test/debian", "http://mirror.test/security")


def plan(suite: str = "trixie", variant: str = "minimal", **more: object) -> BasePlan:
    return plan_base(suite, variant, ARCHIVE, **more)  # type: ignore[arg-type]


def test_stable_takes_updates_and_security() -> None:
    assert [source.suites for source in plan().sources] == [
        ("trixie", "trixie-updates"),
        ("trixie-security",),
    ]


def test_unstable_has_neither_updates_nor_security() -> None:
    assert [source.suites for source in plan("sid").sources] == [("sid",)]


def test_no_security_archive_is_invented_for_a_mirror_without_one() -> None:
    planned = plan_base("trixie", "minimal", Archive("http://mirror.test/debian"))
    assert {source.uri for source in planned.sources} == {"http://mirror.test/debian"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_one_kernel_and_what_boots_it(variant: str) -> None:
    packages = plan(variant=variant).packages
    assert len([name for name in packages if name.startswith("linux-image-")]) == 1
    assert {"dracut", "ostree-boot", "shim-signed", "grub-efi-amd64-signed", "grub-pc-bin"} <= set(
        packages
    )


def test_only_the_server_variant_has_the_kernel_for_all_hardware() -> None:
    generic = {v for v in VARIANTS if "linux-image-amd64" in plan(variant=v).packages}
    assert generic == {"server"}


def test_wanted_packages_come_once_and_last() -> None:
    packages = plan(packages=["tmux", "sudo", "tmux"]).packages
    assert packages[-1] == "tmux"
    assert packages.count("sudo") == packages.count("tmux") == 1


def test_the_tag_names_the_suite_unless_one_is_given() -> None:
    assert plan("forky").tag == "localhost/bootc-build/debian:forky"
    assert plan(tag="localhost/mine:1").tag == "localhost/mine:1"


def test_an_unknown_suite_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        check_suite("trixy")
    assert "trixy" in caught.value.fact
    assert all(suite in caught.value.remedy for suite in SUITES)


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        plan(variant="desktop")
    assert all(variant in caught.value.remedy for variant in VARIANTS)


@pytest.mark.parametrize("name", ["", "a b", "a,b", "--foo=BAR", "x;y"])
def test_what_cannot_be_a_package_name_never_reaches_mmdebstrap(name: str) -> None:
    with pytest.raises(UsageError):
        plan(packages=[name])


def test_sources_in_both_formats() -> None:
    source = Source("http://m.test/d", ("trixie", "trixie-updates"), ("main",))
    assert source.one_line_entries() == [
        "deb http://m.test/d trixie main",
        "deb http://m.test/d trixie-updates main",
    ]
    assert "Suites: trixie trixie-updates\n" in source.deb822("/k.gpg")
    assert source.deb822("/k.gpg").endswith("Signed-By: /k.gpg\n")


def test_another_architecture_has_its_own_kernel_and_boot_loader() -> None:
    planned = plan(architecture="arm64")
    assert {"linux-image-cloud-arm64", "grub-efi-arm64-signed", "shim-signed"} <= set(
        planned.packages
    )
    assert not [name for name in planned.packages if "amd64" in name or "pc-bin" in name]
    assert planned.tag == "localhost/bootc-build/debian:trixie-arm64"
    with pytest.raises(UsageError, match="Unknown architecture 'pdp11'"):
        plan(architecture="pdp11")
