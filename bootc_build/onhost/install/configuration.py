"""What an image says about its own installation: ``bootc/install/*.toml`` below four directories.

Format: upstream's bootc-install-config(5). One table, ``[install]``::

    [install]
    root-fs-type = "ext4"           # or [install.filesystem.root] type = "ext4", which wins
    block = ["direct"]              # the first one is the default
    kargs = ["console=ttyS0"]
    match-architectures = ["x86_64"]

Files are read in the order of their names. Of files with one name, only that of the last directory that
has it counts; a link to /dev/null masks it. A later file's value replaces an earlier one's, except that
``kargs`` and ``karg-deletes`` are added up.
"""

import json
import platform
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bootc_build.onhost.errors import UserError

DIRECTORIES: Final = ("usr/lib", "usr/local/lib", "etc", "run")
_SUBDIRECTORY: Final = "bootc/install"

FILESYSTEMS: Final = ("xfs", "ext4", "btrfs")
BLOCK_SETUPS: Final = ("direct", "tpm2-luks")
BOOTLOADERS: Final = ("grub", "grub-cc", "systemd", "none")
_GROWING: Final = ("kargs", "karg-deletes")


@dataclass(frozen=True)
class _Kind:
    """What a value has to be: a text, one of some words, a list of either, or true or false."""

    words: tuple[str, ...] = ()
    many: bool = False
    boolean: bool = False

    @property
    def wanted(self) -> str:
        """For people."""
        if self.boolean:
            return "true or false"
        one = " or ".join(f'"{word}"' for word in self.words) if self.words else "a text"
        return f"a list of: {one}" if self.many else one

    def accepts(self, value: object) -> bool:
        """Whether a value is of this kind."""
        if self.boolean:
            return isinstance(value, bool)
        if self.many:
            return isinstance(value, list) and all(self._is_one(each) for each in value)
        return self._is_one(value)

    def _is_one(self, value: object) -> bool:
        return isinstance(value, str) and (not self.words or value in self.words)


_FILESYSTEM = _Kind(FILESYSTEMS)
# Key path to kind, as upstream's records have them.
_KEYS: Final[Mapping[str, _Kind]] = {
    "root-fs-type": _FILESYSTEM,
    "filesystem.root.type": _FILESYSTEM,
    "block": _Kind(BLOCK_SETUPS, many=True),
    "kargs": _Kind(many=True),
    "karg-deletes": _Kind(many=True),
    "match-architectures": _Kind(many=True),
    "ostree.bls-append-except-default": _Kind(),
    "stateroot": _Kind(),
    "root-mount-spec": _Kind(),
    "boot-mount-spec": _Kind(),
    "bootupd.skip-boot-uuid": _Kind(boolean=True),
    "bootloader": _Kind(BOOTLOADERS),
    "discoverable-partitions": _Kind(boolean=True),
    "enforce-container-sigpolicy": _Kind(boolean=True),
}
_TABLES: Final = {path.rpartition(".")[0] for path in _KEYS if "." in path} | {"filesystem"}

Value = str | bool | tuple[str, ...]


@dataclass(frozen=True)
class InstallConfiguration:
    """The merged configuration; None and empty tuples where nothing was said.

    Attributes:
        origins: key path to the file whose value it has, for errors; the last one of a key that is added up.
    """

    root_fs_type: str | None = None
    block: tuple[str, ...] = ()
    kargs: tuple[str, ...] = ()
    karg_deletes: tuple[str, ...] = ()
    bls_append_except_default: str | None = None
    stateroot: str | None = None
    root_mount_spec: str | None = None
    boot_mount_spec: str | None = None
    skip_boot_uuid: bool | None = None
    bootloader: str | None = None
    discoverable_partitions: bool | None = None
    enforce_container_sigpolicy: bool | None = None
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)

    def to_json(self, *, everything: bool) -> str:
        """The document of ``print-configuration``, with upstream's keys; absent ones are ``null``.

        Args:
            everything: with the kernel arguments, which the installer applies by itself.
        """
        root = None if self.root_fs_type is None else {"root": {"type": self.root_fs_type}}
        append, skip = self.bls_append_except_default, self.skip_boot_uuid
        document: dict[str, object] = {
            "root-fs-type": self.root_fs_type,
            "block": list(self.block) or None,
            "filesystem": root,
            "match-architectures": None,
            "ostree": None if append is None else {"bls-append-except-default": append},
            "stateroot": self.stateroot,
            "root-mount-spec": self.root_mount_spec,
            "boot-mount-spec": self.boot_mount_spec,
            "bootupd": None if skip is None else {"skip-boot-uuid": skip},
            "bootloader": self.bootloader,
            "discoverable-partitions": self.discoverable_partitions,
            "enforce-container-sigpolicy": self.enforce_container_sigpolicy,
        }
        if everything and self.kargs:
            document["kargs"] = list(self.kargs)
        if everything and self.karg_deletes:
            document["karg-deletes"] = list(self.karg_deletes)
        return json.dumps(document, sort_keys=True, separators=(",", ":"))


def load_configuration(root: Path = Path("/"), machine: str | None = None) -> InstallConfiguration:
    """Read and merge what is installed below ``root``.

    Args:
        root: a file system.
        machine: whose configuration, as ``uname -m`` has it; this machine's by default.

    Raises:
        UserError: a file is wrong; names it, the key and what is allowed there.
    """
    files = ((f"/{path.relative_to(root)}", _read(path)) for path in _drop_ins(root))
    return merge(files, machine)


def _drop_ins(root: Path) -> Iterable[Path]:
    chosen: dict[str, Path] = {}
    for directory in DIRECTORIES:
        folder = root / directory / _SUBDIRECTORY
        for path in folder.glob("*.toml") if folder.is_dir() else ():
            if not path.name.startswith("."):
                chosen[path.name] = path
    masked = Path("/dev/null")
    return [chosen[name] for name in sorted(chosen) if chosen[name].resolve() != masked]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text: {error}.", "Write it in UTF-8.") from error


def merge(
    files: Iterable[tuple[str, str]], architecture: str | None = None
) -> InstallConfiguration:
    """Parse and merge files: pairs of a name for errors and a text, in their order.

    Args:
        files: name and text.
        architecture: whose configuration, as ``uname -m`` has it; this machine's by default.

    Raises:
        UserError: as `parse` says.
    """
    machine = architecture or platform.machine()
    merged: dict[str, Value] = {}
    origins: dict[str, str] = {}
    found = False
    for name, text in files:
        values = parse(text, name)
        architectures = values.pop("match-architectures", None)
        if isinstance(architectures, tuple) and machine not in architectures:
            continue
        found = True
        for key, value in values.items():
            origins[key] = name
            before = merged.get(key, ())
            if key in _GROWING and isinstance(before, tuple) and isinstance(value, tuple):
                merged[key] = (*before, *value)
            else:
                merged[key] = value
    return _record(merged, origins, found=found)


def parse(text: str, where: str) -> dict[str, Value]:
    """The values of one file by key path below ``[install]``.

    Raises:
        UserError: not TOML, an unknown key, or a value that is not allowed; names file and key path.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{where} is not valid TOML: {error}.", "Mend the file.") from error
    unknown = sorted(set(document) - {"install"})
    if unknown:
        raise UserError(
            f"{where} has the unknown key '{unknown[0]}'.", "The only table there is: [install]"
        )
    values: dict[str, Value] = {}
    _collect(document.get("install", {}), (), where, values)
    return values


def _collect(table: object, path: Sequence[str], where: str, values: dict[str, Value]) -> None:
    if not isinstance(table, dict):
        raise UserError(f"{where}: '{'.'.join(('install', *path))}' is not a table.")
    for key, value in table.items():
        here = ".".join((*path, key))
        kind = _KEYS.get(here)
        if kind is not None:
            if not kind.accepts(value):
                shown = json.dumps(value, default=str)
                raise UserError(
                    f"{where}: 'install.{here}' is {shown}.", f"Allowed there is {kind.wanted}."
                )
            values[here] = tuple(value) if isinstance(value, list) else value
        elif here in _TABLES:
            _collect(value, (*path, key), where, values)
        else:
            raise UserError(
                f"{where} has the unknown key 'install.{here}'.",
                f"Known there: {', '.join(_known_below(path))}.",
            )


def _known_below(path: Sequence[str]) -> list[str]:
    prefix = "".join(f"{part}." for part in path)
    below = (key.removeprefix(prefix) for key in _KEYS if key.startswith(prefix))
    return sorted({key.partition(".")[0] for key in below})


def _record(
    values: Mapping[str, Value], origins: Mapping[str, str], *, found: bool
) -> InstallConfiguration:
    def text(key: str) -> str | None:
        value = values.get(key)
        return value if isinstance(value, str) else None

    def truth(key: str) -> bool | None:
        value = values.get(key)
        return value if isinstance(value, bool) else None

    def several(key: str) -> tuple[str, ...]:
        value = values.get(key)
        return value if isinstance(value, tuple) else ()

    return InstallConfiguration(
        root_fs_type=text("filesystem.root.type") or text("root-fs-type"),
        block=several("block") or (("direct",) if found else ()),
        kargs=several("kargs"),
        karg_deletes=several("karg-deletes"),
        bls_append_except_default=text("ostree.bls-append-except-default"),
        stateroot=text("stateroot"),
        root_mount_spec=text("root-mount-spec"),
        boot_mount_spec=text("boot-mount-spec"),
        skip_boot_uuid=truth("bootupd.skip-boot-uuid"),
        bootloader=text("bootloader"),
        discoverable_partitions=truth("discoverable-partitions"),
        enforce_container_sigpolicy=truth("enforce-container-sigpolicy"),
        origins=origins,
    )
