"""The operating system that these tests boot, in two versions, built once."""

from collections.abc import Callable

import pytest

from bootc_build.testing.factory import MachineFactory
from bootc_build.vm.machine import Machine
from test_vms import os_images
from test_vms import tiny_guest as tiny_guest_files
from test_vms.example_os import FOLLOWS, Versions
from test_vms.selection import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_terminal_summary,
    pytest_testnodedown,
)

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_terminal_summary",
    "pytest_testnodedown",
]


@pytest.fixture(scope="session")
def base_image() -> str:
    """The base image of this checkout."""
    return os_images.base_image()


@pytest.fixture(scope="session")
def versions(base_image: str) -> Versions:
    """Versions 1 and 2 of the operating system of Containerfile.example."""
    return Versions(
        os_images.build_version(base_image, "1"), os_images.build_version(base_image, "2")
    )


@pytest.fixture(scope="session")
def tiny_guest(
    base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> tiny_guest_files.TinyGuest:
    """A guest of busybox and the base image's kernel."""
    return tiny_guest_files.make(base_image, tmp_path_factory.mktemp("tiny-guest"))


@pytest.fixture(scope="module")
def machine(bootc_vm_module: MachineFactory, versions: Versions) -> Machine:
    """Version 1, booted with Secure Boot, for tests that leave it as it is."""
    return bootc_vm_module(versions.one, origin=FOLLOWS, firmware="uefi-secure")


@pytest.fixture
def boot(bootc_vm: MachineFactory) -> Callable[[str, str], Machine]:
    """Boots a machine of an image with a firmware."""
    return lambda image, firmware: bootc_vm(image, origin=FOLLOWS, firmware=firmware)
