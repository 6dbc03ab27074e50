"""The operating system that these tests boot, in two versions, built once."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from bootc_build.image.base import build_base
from bootc_build.image.base_plan import SUITES, Archive, plan_base
from bootc_build.image.derived import BuildRequest, build_image
from bootc_build.onhost.progress import Silent
from bootc_build.testing.factory import MachineFactory
from bootc_build.tools.apt_sources import find_archive, read_targets
from bootc_build.tools.buildah import image_exists
from bootc_build.tools.cache import cache_folder
from bootc_build.vm.machine import Machine
from test_vms.example_os import FOLLOWS, Versions

_PROJECT = Path(__file__).resolve().parent.parent
_BASE = "localhost/bootc-build-test/base:trixie"


@pytest.fixture(scope="session")
def base_image() -> str:
    """The base image, built again when what goes into it has changed; or $BOOTC_BUILD_TEST_BASE as it is."""
    if chosen := os.environ.get("BOOTC_BUILD_TEST_BASE"):
        return chosen
    built_from = cache_folder() / "test-base.sha256"
    digest = _source_digest()
    with suppress(FileNotFoundError):
        if built_from.read_text() == digest and image_exists(_BASE):
            return _BASE
    archive = Archive(*find_archive(read_targets(), tuple(SUITES)))
    build_base(plan_base("trixie", "minimal", archive, tag=_BASE), Silent())
    built_from.parent.mkdir(parents=True, exist_ok=True)
    built_from.write_text(digest)
    return _BASE


@pytest.fixture(scope="session")
def versions(base_image: str) -> Versions:
    """Versions 1 and 2 of the operating system of Containerfile.example."""
    return Versions(_build(base_image, "1"), _build(base_image, "2"))


@pytest.fixture(scope="module")
def machine(bootc_vm_module: MachineFactory, versions: Versions) -> Machine:
    """Version 1, booted with Secure Boot, for tests that leave it as it is."""
    return bootc_vm_module(versions.one, origin=FOLLOWS, firmware="uefi-secure")


@pytest.fixture
def boot(bootc_vm: MachineFactory) -> Callable[[str, str], Machine]:
    """Boots a machine of an image with a firmware."""
    return lambda image, firmware: bootc_vm(image, origin=FOLLOWS, firmware=firmware)


def _source_digest() -> str:
    digest = hashlib.sha256()
    package = _PROJECT / "bootc_build"
    for folder in ("onhost", "data/image_root", "image"):
        for path in sorted((package / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(package)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _build(base: str, version: str) -> str:
    example = f"localhost/bootc-build-test/example:{version}"
    image = f"localhost/bootc-build-test/os:{version}"
    number = ("--build-arg", f"VERSION={version}")
    for tag, containerfile, parent in (
        (example, _PROJECT / "Containerfile.example", f"BASE={base}"),
        (image, _PROJECT / "test_vms/os/Containerfile", f"EXAMPLE={example}"),
    ):
        request = BuildRequest(
            tags=(tag,),
            containerfiles=(str(containerfile),),
            context=str(_PROJECT),
            flags=("--layers", "--pull=false", "--build-arg", parent, *number),
        )
        build_image(request, Silent())
    return image
