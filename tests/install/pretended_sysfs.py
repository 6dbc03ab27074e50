"""Block devices as /sys shows them, for machines that have none of them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from bootc_build.onhost.install import underlying

GROUP = "g" * 32


class Sysfs:
    """A pretended /sys and /dev.

    Args:
        folder: an empty directory.
        monkeypatch: puts them in place.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.devices = folder / "dev"
        self._block = folder / "sys/devices/block"
        self._numbers = folder / "sys/dev/block"
        for each in (self.devices, self._block, self._numbers):
            each.mkdir(parents=True)
        monkeypatch.setattr(underlying, "SYSTEM", folder / "sys")
        monkeypatch.setattr(underlying, "DEVICES", self.devices)

    def disk(self, name: str) -> Path:
        """A disk; its node."""
        self._add(self._block / name)
        return self.devices / name

    def partition(self, name: str, disk: str) -> str:
        """A partition of a disk, or of an array; its name."""
        folder = self._block / disk / name
        self._add(folder)
        (folder / "partition").write_text("1\n")
        return name

    def array(
        self, name: str, members: Sequence[str], level: str = "raid1", version: str = "1.2"
    ) -> str:
        """An array of md; its name."""
        facts = {"level": level, "metadata_version": version}
        return self._layer(name, members, "md", facts)

    def mapped(self, name: str, parts: Sequence[str], uuid: str, called: str = "x") -> str:
        """A device of the device mapper; its name."""
        return self._layer(name, parts, "dm", {"uuid": uuid, "name": called})

    def volume(
        self, name: str, parts: Sequence[str], called: str, *, part: str = "", group: str = GROUP
    ) -> str:
        """A logical volume, or a part of one; its name."""
        identifier = f"{name.replace('-', ''):v<32}"
        return self.mapped(name, parts, f"LVM-{group}{identifier}{part}", called)

    def look(self, name: str) -> underlying.Underlying:
        """What a device stands on."""
        return underlying.find_underlying(Path("/dev", name), name)

    def number(self, number: str, name: str) -> None:
        """Give a device a number; its name serves for one as well."""
        (self._numbers / number).symlink_to((self._numbers / name).resolve())

    def _layer(self, name: str, parts: Sequence[str], kind: str, facts: dict[str, str]) -> str:
        folder = self._block / name
        self._add(folder)
        (folder / "slaves").mkdir()
        (folder / kind).mkdir()
        for key, value in facts.items():
            (folder / kind / key).write_text(f"{value}\n")
        for part in parts:
            (folder / "slaves" / part).symlink_to((self._numbers / part).resolve())
        return name

    def _add(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (self._numbers / folder.name).symlink_to(folder)
        (self.devices / folder.name).touch()
