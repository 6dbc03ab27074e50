"""An arm64 image made on this machine installs itself to a disk, and the disk boots by UEFI."""

import json
from pathlib import Path

import pytest

from bootc_build.onhost.process import MissingProgramError, find_program, run
from bootc_build.tools import binfmt
from bootc_build.tools.buildah import remove_image

TAG = "localhost/bootc-build-test/arm64:trixie"


def missing() -> str:
    if not binfmt.interpreter("arm64"):
        return "programs for arm64 cannot be run here"
    try:
        find_program("qemu-system-aarch64")
    except MissingProgramError as error:
        return error.fact
    return ""


# Everything in the image runs through qemu-user: it takes half an hour.
@pytest.mark.long
@pytest.mark.skipif(bool(missing()), reason=missing() or "all is there")
@pytest.mark.bootc_timeout(7200)
def test_an_arm64_image_boots_from_its_disk(tmp_path: Path) -> None:
    try:
        run(["bootc-build", "base", "--arch", "arm64", "-t", TAG])
        options = ["--type", "qcow2", "--output", str(tmp_path)]
        run(["bootc-build", "disk", TAG, *options, "--target-imgref", "registry.example/os:1"])
    finally:
        remove_image(TAG)
    disk = str(tmp_path / "disk.qcow2")
    found = json.loads(run(["bootc-build", "inspect", "--format", "json", disk]).stdout)
    assert [part["purpose"] for part in found["partitions"]][-1] == "root (ARM 64-bit)"
    assert "BIOS boot" not in {part["purpose"] for part in found["partitions"]}
    machine = ["bootc-build", "run", "--arch", "arm64", "--firmware", "uefi", disk, "--"]
    said = run(
        [*machine, "sh", "-c", "uname -m; bootc status --json; systemctl is-system-running --wait"]
    )
    lines = said.stdout.splitlines()
    assert lines[0] == "aarch64"
    assert lines[-1] == "running"
