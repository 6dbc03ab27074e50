"""Turn a stored version of the system back into a container image, for podman and buildah.

The commit's tree becomes one layer (what was in /usr/etc is /etc again), under the labels, environment and command
of the image that it was made from. It is written as an OCI layout beside the repository's temporary files and
copied into the storage by skopeo. Format: the OCI image layout specification.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from bootc_build.onhost import process
from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.booted import BootedSystem
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import image_ref
from bootc_build.onhost.ostree.metadata import ImageMetadata, load_image_metadata
from bootc_build.onhost.progress import Progress

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.repo import Repo

DEFAULT_NAME: Final = "localhost/bootc"
_PLACE: Final = Path("/var/tmp")  # noqa: S108 - a directory of its own is made in it
_TAG: Final = "image"
_CHUNK: Final = 1024 * 1024
_RESERVE: Final = 64 * 1024 * 1024
_OCI: Final = "application/vnd.oci.image"


def copy_to_storage(
    system: BootedSystem, source: str | None, target: str, progress: Progress
) -> str:
    """Copy an image of this host to the container storage; the digest of its manifest.

    Args:
        system: the running system.
        source: a stored image with its transport (``docker://quay.io/a/b:1``); the booted one without.
        target: its name in the storage.
        progress: hears of the steps.

    Raises:
        UserError: there is no such image, no space, or the storage cannot take it.
    """
    repo = system.sysroot.repo
    commit = system.slots.booted.checksum
    if source is not None:
        found = repo.resolve_ref(image_ref(ImageReference.parse_transport_qualified(source)))
        if found is None:
            raise UserError(f"'{source}' is not stored on this host.", "See: bootc image list")
        commit = found
    metadata = load_image_metadata(repo, commit)
    if metadata is None:
        raise UserError(
            "The booted system was not made from a container image.", "Name one with --source."
        )
    with tempfile.TemporaryDirectory(dir=_PLACE, prefix="bootc-export-") as name:
        layout = Path(name)
        progress.step("Packing the system")
        digest = write_layout(repo, commit, metadata, layout)
        progress.step(f"Copying to containers-storage:{target}")
        copy = ["skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{layout}:{_TAG}"]
        process.run([*copy, f"containers-storage:{target}"])
    return digest


def write_layout(repo: "Repo", commit: str, metadata: ImageMetadata, layout: Path) -> str:
    """Write a commit as an OCI layout with one image, ``image``; the digest of its manifest.

    Raises:
        UserError: libostree cannot check the commit out; no space.
    """
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    tree = repo.path / "tmp" / f"bootc-export-{os.getpid()}"
    try:
        repo.check_out(commit, tree)
        diff_id, size = _write_layer(tree, blobs)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
    config = json.loads(metadata.config.text)
    config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]}
    config["history"] = [{"created_by": "bootc image copy-to-storage"}]
    labels = (config.get("config") or {}).get("Labels") or {}
    # They describe layers that are no longer there.
    for key in [key for key in labels if key.startswith("ostree.") and key != "ostree.bootable"]:
        del labels[key]
    config_digest, config_size = _write_blob(blobs, config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": _descriptor("config.v1+json", config_digest, config_size),
        "layers": [_descriptor("layer.v1.tar", diff_id, size)],
    }
    digest, manifest_size = _write_blob(blobs, manifest)
    entry = _descriptor("manifest.v1+json", digest, manifest_size)
    entry["annotations"] = {"org.opencontainers.image.ref.name": _TAG}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return f"sha256:{digest}"


def _write_layer(tree: Path, blobs: Path) -> tuple[str, int]:
    """Pack a checkout as a tar; digest and size."""
    used = process.run(["du", "--summarize", "--bytes", str(tree)]).stdout.split()[0]
    free = os.statvfs(blobs)
    available = free.f_bavail * free.f_frsize
    if int(used) + _RESERVE > available:
        raise UserError(
            f"Packing the system takes {int(used) // 1_000_000} MB in {blobs}, where "
            f"{available // 1_000_000} MB are free.",
            "Make room in /var/tmp.",
        )
    command = [
        *("tar", "--create", "--sort=name", "--numeric-owner", "--format=posix"),
        *("--xattrs", "--xattrs-include=*", "--pax-option=delete=atime,delete=ctime"),
        # Names, hard links included; what a symbolic link leads to is right as it is.
        *("--transform", "flags=rh;s,^\\./usr/etc\\(/\\|$\\),./etc\\1,"),
        *("--directory", str(tree), "."),
    ]
    new = blobs / "layer.new"
    sha256 = hashlib.sha256()
    with (
        process.running(command, stdout=process.PIPE, stderr=process.PIPE) as tar,
        new.open("wb") as file,
    ):
        assert tar.stdout is not None  # noqa: S101 - asked for
        assert tar.stderr is not None  # noqa: S101 - asked for
        _copy(tar.stdout, file, sha256.update)
        said = tar.stderr.read().decode(errors="backslashreplace")
        status = tar.wait()
    if status:
        raise process.CommandError(command, status, said)
    digest = sha256.hexdigest()
    size = new.stat().st_size
    new.rename(blobs / digest)
    return digest, size


def _copy(source: IO[bytes], target: IO[bytes], seen: Callable[[bytes], None]) -> None:
    while chunk := source.read(_CHUNK):
        seen(chunk)
        target.write(chunk)


def _write_blob(blobs: Path, document: object) -> tuple[str, int]:
    data = json.dumps(document, sort_keys=True).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return digest, len(data)


def _descriptor(kind: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": f"{_OCI}.{kind}", "digest": f"sha256:{digest}", "size": size}
