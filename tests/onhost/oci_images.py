"""Small OCI images on disk, made of Python literals: what the import tests feed to the real skopeo.

layer = [Dir("usr"), File("usr/a", b"hello", mode=0o755), Link("usr/b", "usr/a")]
write_image(tmp_path / "layout", [layer])      # -> skopeo's "oci:<tmp_path>/layout:image"
"""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TAG = "image"
LABELS = {"containers.bootc": "1", "ostree.bootable": "1"}


@dataclass(frozen=True)
class Entry:
    """One tar entry; ``pax`` adds PAX records such as ``SCHILY.xattr.user.x``."""

    path: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    pax: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class File(Entry):
    data: bytes = b""


@dataclass(frozen=True)
class Dir(Entry):
    mode: int = 0o755


@dataclass(frozen=True)
class Symlink(Entry):
    target: str = ""
    mode: int = 0o777


@dataclass(frozen=True)
class Link(Entry):
    """A hard link."""

    target: str = ""


@dataclass(frozen=True)
class Special(Entry):
    """A device or FIFO: ``kind`` is tarfile's type."""

    kind: bytes = tarfile.CHRTYPE


type_of = {Dir: tarfile.DIRTYPE, Symlink: tarfile.SYMTYPE, Link: tarfile.LNKTYPE}


def tar_of(entries: Iterable[Entry], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    """The entries, in their order, as a tar stream."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.gid
            info.pax_headers = dict(entry.pax)
            info.type = entry.kind if isinstance(entry, Special) else type_of.get(type(entry), b"0")
            if isinstance(entry, Symlink | Link):
                info.linkname = entry.target
            if isinstance(entry, File):
                info.size = len(entry.data)
                tar.addfile(info, io.BytesIO(entry.data))
            else:
                tar.addfile(info)
    return out.getvalue()


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def compress(data: bytes, compression: str) -> tuple[bytes, str]:
    """The blob and its media type; ``gzip``, ``zstd``, ``skippable`` or ``none``."""
    base = "application/vnd.oci.image.layer.v1.tar"
    if compression == "gzip":
        return gzip.compress(data, 1, mtime=0), base + "+gzip"
    if compression == "zstd":
        done = subprocess.run(["zstd", "-q", "-c"], input=data, check=True, capture_output=True)
        return done.stdout, base + "+zstd"
    if compression == "skippable":
        blob, media_type = compress(data, "zstd")
        return b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc" + blob, media_type
    return data, base


@dataclass(frozen=True)
class WrittenImage:
    """An image on disk: how skopeo and the origin file call it, and the digests of its parts."""

    layout: Path
    tag: str
    manifest_digest: str
    config_digest: str
    layer_digests: tuple[str, ...]
    diff_ids: tuple[str, ...]

    @property
    def skopeo(self) -> str:
        return f"oci:{self.layout}:{self.tag}"

    @property
    def origin(self) -> str:
        return f"ostree-unverified-image:{self.skopeo}"

    def blob(self, digest: str) -> Path:
        return self.layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def write_image(
    layout: Path,
    layers: Sequence[Iterable[Entry] | bytes],
    *,
    compression: str = "gzip",
    tag: str = TAG,
    labels: Mapping[str, str] = LABELS,
    architecture: str = "amd64",
    created: str = "2026-01-02T03:04:05Z",
    annotations: Mapping[str, str] | None = None,
    history: Sequence[Mapping[str, object]] | None = None,
    diff_ids: Sequence[str] | None = None,
) -> WrittenImage:
    """Write an OCI layout with one image; a layer is entries, or the bytes of a tar.

    ``diff_ids`` replaces the true ones, to make images that lie.
    """
    blobs = layout / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def store(data: bytes) -> str:
        digest = digest_of(data)
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        return digest

    descriptors: list[dict[str, object]] = []
    true_ids: list[str] = []
    for layer in layers:
        tar = layer if isinstance(layer, bytes) else tar_of(layer)
        blob, media_type = compress(tar, compression)
        true_ids.append(digest_of(tar))
        descriptors.append({"mediaType": media_type, "digest": store(blob), "size": len(blob)})
    config = {
        "architecture": architecture,
        "os": "linux",
        "created": created,
        "config": {"Labels": dict(labels)},
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids or true_ids)},
        "history": list(history or [{"created_by": f"RUN step {i}"} for i in range(len(layers))]),
    }
    config_text = json.dumps(config).encode()
    config_digest = store(config_text)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest,
            "size": len(config_text),
        },
        "layers": descriptors,
        "annotations": dict(annotations or {}),
    }
    manifest_text = json.dumps(manifest).encode()
    manifest_digest = store(manifest_text)
    _tag(layout, tag, manifest_digest, len(manifest_text))
    return WrittenImage(
        layout=layout,
        tag=tag,
        manifest_digest=manifest_digest,
        config_digest=config_digest,
        layer_digests=tuple(str(item["digest"]) for item in descriptors),
        diff_ids=tuple(true_ids),
    )


def _tag(layout: Path, tag: str, digest: str, size: int) -> None:
    """Point a tag of the layout at a manifest; other tags stay."""
    index_path = layout / "index.json"
    index: dict[str, Any] = (
        json.loads(index_path.read_text())
        if index_path.exists()
        else {"schemaVersion": 2, "manifests": []}
    )
    name = "org.opencontainers.image.ref.name"
    kept = [item for item in index["manifests"] if item["annotations"][name] != tag]
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest,
        "size": size,
        "annotations": {name: tag},
    }
    index_path.write_text(json.dumps({**index, "manifests": [*kept, entry]}))
