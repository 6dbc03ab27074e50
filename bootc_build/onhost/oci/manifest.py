"""Image manifests and configurations: checked once, then frozen records.

Sources: the OCI image specification and Docker's manifest schema 2, which name the same fields.
A list of manifests never gets here: skopeo chooses the one for this machine.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.record import record

LABEL_BOOTC: Final = "containers.bootc"
LABEL_OSTREE_BOOTABLE: Final = "ostree.bootable"
LABEL_OSTREE_COMMIT: Final = "ostree.commit"
LABEL_FINAL_DIFFID: Final = "ostree.final-diffid"
ANNOTATION_CREATED: Final = "org.opencontainers.image.created"
VERSION_LABELS: Final = ("org.opencontainers.image.version", "version")

_DIGEST: Final = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-f]{32,}")
_FRACTION: Final = re.compile(r"\.(\d{1,6})\d*")


class MalformedDocumentError(UserError):
    """A manifest or a configuration lacks a field or has nonsense in it; the message names the field."""

    def __init__(self, document: str, field: str, problem: str) -> None:
        super().__init__(
            f"The {document} is malformed: '{field}' {problem}.",
            "Build and push the image again; this is nothing that the host can mend.",
        )
        self.field = field


@record
class Descriptor:
    """A blob: media type, digest (``sha256:…``), size in bytes, annotations."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str]


@record
class ImageManifest:
    """The manifest of one image for one architecture; ``text`` is its canonical JSON."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    text: str


@record
class HistoryEntry:
    """What made a layer; ``empty_layer`` entries have none."""

    created_by: str
    empty_layer: bool


@record
class ImageConfig:
    """The configuration of an image; ``text`` is its canonical JSON, ``created`` is RFC 3339 or empty."""

    architecture: str
    os: str
    created: str
    labels: Mapping[str, str]
    diff_ids: tuple[str, ...]
    history: tuple[HistoryEntry, ...]
    text: str

    @property
    def version(self) -> str | None:
        """The version that the image says it has."""
        return next((self.labels[key] for key in VERSION_LABELS if key in self.labels), None)

    @property
    def bootable(self) -> bool:
        """Whether it is labelled as an operating system."""
        return LABEL_BOOTC in self.labels or LABEL_OSTREE_BOOTABLE in self.labels

    @property
    def base_layers(self) -> int:
        """How many layers, from the lowest, are an ostree commit; 0 for an image of ordinary layers only.

        Raises:
            MalformedDocumentError: the label names a layer that is not there, or not once.
        """
        last = self.labels.get(LABEL_FINAL_DIFFID)
        if last is None:
            return 0
        if self.diff_ids.count(last) != 1:
            raise MalformedDocumentError(
                "image configuration",
                f"config.Labels.{LABEL_FINAL_DIFFID}",
                f"names the layer {last}, which the image has {self.diff_ids.count(last)} times",
            )
        return self.diff_ids.index(last) + 1

    def made_by(self, layer: int) -> str:
        """The history line of a layer (counted from 0), or an empty string when there is none."""
        lines = [entry.created_by for entry in self.history if not entry.empty_layer]
        return lines[layer] if layer < len(lines) else ""


def canonical_json(document: object) -> str:
    """JSON with sorted keys and no white space, as upstream keeps it in commit metadata."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def parse_manifest(data: bytes | str) -> ImageManifest:
    """Check a manifest.

    Raises:
        MalformedDocumentError: names the field that is missing or wrong.
    """
    reader = _Reader("image manifest")
    top = reader.document(data)
    if "manifests" in top:
        raise reader.bad("manifests", "makes it a list of images, not one image")
    if top.get("schemaVersion") != 2:  # noqa: PLR2004 - the only version that was ever current
        raise reader.bad("schemaVersion", "is not 2")
    layers = reader.array(top, "layers", "layers")
    if not layers:
        raise reader.bad("layers", "is empty")
    return ImageManifest(
        media_type=reader.text(top, "mediaType", "mediaType", ""),
        config=_descriptor(reader, top.get("config"), "config"),
        layers=tuple(_descriptor(reader, item, f"layers[{i}]") for i, item in enumerate(layers)),
        annotations=reader.strings(top, "annotations", "annotations"),
        text=canonical_json(top),
    )


def parse_config(data: bytes | str) -> ImageConfig:
    """Check an image configuration.

    Raises:
        MalformedDocumentError: names the field that is missing or wrong.
    """
    reader = _Reader("image configuration")
    top = reader.document(data)
    rootfs = reader.section(top, "rootfs", "rootfs")
    inner = reader.section(top, "config", "config")
    diff_ids = reader.array(rootfs, "diff_ids", "rootfs.diff_ids")
    return ImageConfig(
        architecture=reader.text(top, "architecture", "architecture"),
        os=reader.text(top, "os", "os", "linux"),
        created=reader.text(top, "created", "created", ""),
        labels=reader.strings(inner, "Labels", "config.Labels"),
        diff_ids=tuple(
            reader.digest(item, f"rootfs.diff_ids[{i}]") for i, item in enumerate(diff_ids)
        ),
        history=tuple(
            _history(reader, item, f"history[{i}]")
            for i, item in enumerate(reader.array(top, "history", "history"))
        ),
        text=canonical_json(top),
    )


def timestamp(manifest: ImageManifest, config: ImageConfig) -> int | None:
    """When the image was made, in seconds since 1970: the manifest's annotation, else the configuration's.

    None when neither says so readably.
    """
    text = manifest.annotations.get(ANNOTATION_CREATED) or config.created
    moment = parse_time(text)
    return None if moment is None else max(0, int(moment.timestamp()))


def parse_time(text: str) -> datetime | None:
    """An RFC 3339 time, or None. Nanoseconds (Docker writes them) are cut to what Python knows."""
    try:
        moment = datetime.fromisoformat(_FRACTION.sub(lambda m: f".{m[1]:0<6}", text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _descriptor(reader: "_Reader", value: object, field: str) -> Descriptor:
    item = reader.as_object(value, field)
    size = item.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise reader.bad(f"{field}.size", "is not a number of bytes")
    return Descriptor(
        media_type=reader.text(item, "mediaType", f"{field}.mediaType"),
        digest=reader.digest(item.get("digest"), f"{field}.digest"),
        size=size,
        annotations=reader.strings(item, "annotations", f"{field}.annotations"),
    )


def _history(reader: "_Reader", value: object, field: str) -> HistoryEntry:
    item = reader.as_object(value, field)
    return HistoryEntry(
        created_by=reader.text(item, "created_by", f"{field}.created_by", ""),
        empty_layer=item.get("empty_layer") is True,
    )


class _Reader:
    """Typed access to a JSON document, with errors that name the field."""

    def __init__(self, name: str) -> None:
        self.name = name

    def bad(self, field: str, problem: str) -> MalformedDocumentError:
        return MalformedDocumentError(self.name, field, problem)

    def document(self, data: bytes | str) -> dict[str, object]:
        try:
            value = json.loads(data)
        except ValueError as exc:
            raise self.bad("(the whole document)", f"is not JSON ({exc})") from exc
        return self.as_object(value, "(the whole document)")

    def as_object(self, value: object, field: str) -> dict[str, object]:
        if value is None:
            raise self.bad(field, "is missing")
        if not isinstance(value, dict):
            raise self.bad(field, "is not an object")
        return value

    def section(self, parent: Mapping[str, object], key: str, field: str) -> dict[str, object]:
        return {} if parent.get(key) is None else self.as_object(parent[key], field)

    def array(self, parent: Mapping[str, object], key: str, field: str) -> list[object]:
        value = parent.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.bad(field, "is not an array")
        return value

    def text(
        self, parent: Mapping[str, object], key: str, field: str, default: str | None = None
    ) -> str:
        value = parent.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise self.bad(field, "is missing")
        if not isinstance(value, str):
            raise self.bad(field, "is not a string")
        return value

    def strings(self, parent: Mapping[str, object], key: str, field: str) -> dict[str, str]:
        value = self.section(parent, key, field)
        result: dict[str, str] = {}
        for name, text in value.items():
            if not isinstance(text, str):
                raise self.bad(f"{field}.{name}", "is not a string")
            result[name] = text
        return result

    def digest(self, value: object, field: str) -> str:
        if value is None:
            raise self.bad(field, "is missing")
        if not isinstance(value, str) or not _DIGEST.fullmatch(value):
            raise self.bad(field, "is not a digest")
        return value
