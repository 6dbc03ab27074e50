"""Disks of a stand-in image and a configuration, and what is on them."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.disk_yaml import disk_configuration
from bootc_build.config.document import parse_document
from bootc_build.disk.build import DiskRequest, build_disk, parse_target
from bootc_build.disk.formats import DiskType
from bootc_build.onhost.process import run
from bootc_build.onhost.progress import Progress, Silent
from bootc_build.tools.buildah import remove_image, working_container
from bootc_build.tools.e2fsprogs import Ext4Slot, read_file
from tests.disk.installed_trees import DEPLOYMENT
from tests.disk.stand_in_image import KERNEL, make_stand_in_image


@dataclass(frozen=True)
class Made:
    """A disk and its partitions by name: first byte and length."""

    path: Path
    places: dict[str, tuple[int, int]]

    def ext4(self, name: str) -> Ext4Slot:
        return Ext4Slot(self.path, *self.places[name])

    def read(self, path: str) -> str:
        return read_file(self.ext4("root"), f"/{DEPLOYMENT}{path}")

    def stat(self, path: str) -> str:
        return run(["debugfs", "-R", f"stat /{DEPLOYMENT}{path}", self.ext4("root").device]).stdout

    def probe(self, name: str) -> dict[str, str]:
        offset, size = self.places[name]
        flags = ["--probe", f"--offset={offset}", f"--size={size}", "--output=export"]
        lines = run(["blkid", *flags, str(self.path)]).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)

    def extract(self, name: str, folder: Path) -> Path:
        offset, size = self.places[name]
        target = folder / name
        place = [f"skip={offset}", f"count={size}", "iflag=skip_bytes,count_bytes"]
        run(["dd", f"if={self.path}", f"of={target}", "bs=1M", "conv=sparse", *place])
        return target


def configuration(text: str) -> DiskConfiguration:
    return disk_configuration(parse_document(text, ".yaml", "disk.yaml"), "disk.yaml")


@contextmanager
def configurable_image(scratch: Path) -> Iterator[str]:
    """A stand-in image whose kernel knows all file systems and that has LVM."""
    tag = f"localhost/bootc-build-test/disk-{secrets.token_hex(4)}:1"
    make_stand_in_image(tag, scratch, extra=(f"{KERNEL}/modules.builtin", "usr/sbin/lvm"))
    yield tag
    remove_image(tag)


class Steps(Silent):
    """Keeps what was done."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def step(self, text: str) -> None:
        self.told.append(text)


def make(
    image: str, output: Path, text: str, progress: Progress | None = None, **more: object
) -> Made:
    request = DiskRequest(
        image,
        [DiskType.RAW],
        output,
        target=parse_target("registry.example/os:v1"),
        configuration=configuration(text),
        manifest=False,
    )
    [disk] = build_disk(replace(request, **more), progress or Silent())  # type: ignore[arg-type]
    return look(disk.path)


def look(disk: Path) -> Made:
    table = json.loads(run(["sfdisk", "--json", str(disk)]).stdout)["partitiontable"]
    parts = table["partitions"]
    places = {each["name"]: (each["start"] * 512, each["size"] * 512) for each in parts}
    return Made(disk, places)


def with_files(image: str, files: dict[str, str]) -> str:
    """The image with files more."""
    tag = f"localhost/bootc-build-test/disk-{secrets.token_hex(4)}:1"
    with working_container(image) as container:
        for name, text in files.items():
            path = container.mount() / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        container.commit(tag)
    return tag
