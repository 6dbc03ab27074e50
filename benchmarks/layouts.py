"""OCI layouts on disk, of any size, for what is measured: layers are plain tar, and are written once."""

import copy
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from bootc_build.tools.buildah import image_id
from bootc_build.tools.skopeo import export_uncompressed

_KIND = "application/vnd.oci.image"


def blob(layout: Path, digest: str) -> Path:
    """The file of a blob."""
    return layout / "blobs" / digest.replace(":", "/")


def layers_of(layout: Path) -> list[str]:
    """Digests of the layers of the only image in a layout, lowest first."""
    index = json.loads((layout / "index.json").read_text())
    manifest = json.loads(blob(layout, index["manifests"][0]["digest"]).read_text())
    return [layer["digest"] for layer in manifest["layers"]]


def export(image: str, layout: Path) -> list[str]:
    """Write an image of local storage as a layout; digests of its layers."""
    export_uncompressed(image_id(image), layout, "image")
    return layers_of(layout)


def adopt(layout: Path, file: Path) -> str:
    """Move a finished tar into a layout's blobs; its digest."""
    with file.open("rb") as opened:
        digest = f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
    place = blob(layout, digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    file.replace(place)
    return digest


def share(source: Path, layout: Path, digests: Iterable[str]) -> None:
    """Put blobs of another layout into this one, as hard links."""
    for digest in digests:
        place = blob(layout, digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.hardlink_to(blob(source, digest))


def write_image(layout: Path, layers: Sequence[str], version: str = "1") -> None:
    """Make an image of layers that are in the layout, as its only one, ``image``."""

    def put(document: object) -> dict[str, object]:
        data = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        place = blob(layout, digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        return {"digest": digest, "size": len(data)}

    labels = {"containers.bootc": "1", "org.opencontainers.image.version": version}
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": list(layers)},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_KIND}.manifest.v1+json",
        "config": {"mediaType": f"{_KIND}.config.v1+json", **put(config)},
        "layers": [
            {
                "mediaType": f"{_KIND}.layer.v1.tar",
                "digest": digest,
                "size": blob(layout, digest).stat().st_size,
            }
            for digest in layers
        ],
    }
    entry = {
        "mediaType": f"{_KIND}.manifest.v1+json",
        **put(manifest),
        "annotations": {"org.opencontainers.image.ref.name": "image"},
    }
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def small_layer(layout: Path, name: str, content: bytes) -> str:
    """Write a layer of one file; its digest."""
    with tarfile.open(layout / "layer", "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return adopt(layout, layout / "layer")


def bulky_layer(layout: Path, name: str, size: int, files: int) -> str:
    """Write a layer of so many bytes in so many files, no two of which are the same; its digest."""
    filling = random.Random(name).randbytes(size // files)  # noqa: S311 - the same each time
    with tarfile.open(layout / "layer", "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(files):
            content = f"{number}\n".encode() + filling
            info = tarfile.TarInfo(f"{name}/{number}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return adopt(layout, layout / "layer")


def copied_layer(layout: Path, layers: Sequence[str], number: int) -> str:
    """Write a layer with all that other layers have, below a folder of its own; its digest.

    Every file differs from its model in a few bytes, so that no two layers share an object: sizes, names and
    their number are those of a real system.
    """
    below = f"usr/share/copy{number}"
    mark = f"{number}\n".encode()
    with tarfile.open(layout / "layer", "w", format=tarfile.PAX_FORMAT) as target:
        for digest in layers:
            with tarfile.open(blob(layout, digest)) as source:
                for member in source:
                    info = copy.copy(member)
                    info.name = f"{below}/{member.name.removeprefix('./')}"
                    info.pax_headers = {
                        key: value for key, value in member.pax_headers.items() if key != "path"
                    }
                    if member.isreg():
                        opened = source.extractfile(member)
                        assert opened is not None  # noqa: S101 - it is a regular file
                        data = mark + opened.read()
                        info.size = len(data)
                        target.addfile(info, io.BytesIO(data))
                    elif member.islnk():
                        info.linkname = f"{below}/{member.linkname.removeprefix('./')}"
                        info.pax_headers.pop("linkpath", None)
                        target.addfile(info)
                    elif member.isdir() or member.issym():
                        target.addfile(info)
    return adopt(layout, layout / "layer")
