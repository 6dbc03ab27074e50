"""A small operating system tree, committed to a scratch sysroot by the real libostree."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from bootc_build.onhost.oci.manifest import canonical_json, parse_config, parse_manifest
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.pull import PulledImage

GENERATOR = Path(__file__).parents[2] / "bootc_build/data/image_root/usr/libexec/bootc/grub-menu"


def make_tree(root: Path, *, version: str, kargs: str = "", etc: str = "usr/etc") -> None:
    """Lay out what libostree wants of an operating system, with a kernel that is one word.

    ``etc`` is ``usr/etc`` in a commit, ``etc`` in an image.
    """
    for directory in (etc, "usr/bin", "usr/lib/bootc/kargs.d", "usr/libexec/bootc"):
        (root / directory).mkdir(parents=True)
    for directory in ("sysroot", "boot", "dev", "proc", "run", "sys", "tmp", "var"):
        (root / directory).mkdir()
    (root / "ostree").symlink_to("sysroot/ostree")
    for merged in ("bin", "lib", "lib64", "sbin"):
        (root / merged).symlink_to(f"usr/{merged}")
    (root / etc / "containers").mkdir()
    (root / etc / "containers/policy.json").write_text(
        '{"default":[{"type":"insecureAcceptAnything"}]}'
    )
    modules = root / "usr/lib/modules/1.0"
    modules.mkdir(parents=True)
    (modules / "vmlinuz").write_text(f"kernel {version}")
    (modules / "initramfs.img").write_text(f"initramfs {version}")
    (root / "usr/lib/os-release").write_text(
        f'ID=test\nPRETTY_NAME="Test OS"\nVERSION_ID={version}\n'
    )
    (root / etc / "fstab").write_text("# nothing here\nUUID=old /boot ext4 defaults 0 2\n")
    (root / etc / "colour").write_text("image\n")
    (root / "usr/lib/version").write_text(version)
    if kargs:
        (root / "usr/lib/bootc/kargs.d/10-test.toml").write_text(kargs)
    shutil.copy(GENERATOR, root / "usr/libexec/bootc/grub-menu")
    (root / "usr/bin/bootc").write_text("#!/bin/false\n")  # the checkout's runs in its place


def image_documents(version: str, diff_id: str, layer: str, size: int) -> tuple[str, str]:
    """Manifest and configuration of an image of one uncompressed layer."""
    config = canonical_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-02T03:04:05.678901234Z",
            "config": {
                "Labels": {"containers.bootc": "1", "org.opencontainers.image.version": version}
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
    )
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": _digest(config.encode()),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": layer,
                    "size": size,
                }
            ],
        }
    )
    return manifest, config


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def write_image(
    layout: Path,
    scratch: Path,
    *,
    version: str,
    kargs: str = "",
    spoil: Callable[[Path], None] = lambda _tree: None,
) -> str:
    """Write an invented image as ``oci:LAYOUT:image``, in place of one there; its manifest digest.

    ``spoil`` may change the tree before it is packed.
    """
    tree = scratch / f"image-{version}"
    make_tree(tree, version=version, kargs=kargs, etc="etc")
    spoil(tree)
    tar = ["tar", "--create", "--numeric-owner", "--owner=0", "--group=0", "--sort=name"]
    layer = subprocess.run(
        [*tar, f"--directory={tree}", "."], check=True, capture_output=True
    ).stdout
    manifest, config = image_documents(version, _digest(layer), _digest(layer), len(layer))
    shutil.rmtree(layout, ignore_errors=True)
    (layout / "blobs/sha256").mkdir(parents=True)
    for blob in (layer, manifest.encode(), config.encode()):
        (layout / "blobs/sha256" / _digest(blob).removeprefix("sha256:")).write_bytes(blob)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    descriptor = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": _digest(manifest.encode()),
        "size": len(manifest),
        "annotations": {"org.opencontainers.image.ref.name": "image"},
    }
    (layout / "index.json").write_text(
        canonical_json({"schemaVersion": 2, "manifests": [descriptor]})
    )
    return _digest(manifest.encode())


def commit_image(scratch: Path, repo: Repo, *, version: str = "1", kargs: str = "") -> PulledImage:
    """Commit an invented image to a repository, as an import would leave it."""
    tree = scratch / f"tree-{version}"
    make_tree(tree, version=version, kargs=kargs)
    invented = _digest(version.encode())
    manifest, config = image_documents(version, invented, invented, 3)
    digest = _digest(manifest.encode())
    metadata = {
        "ostree.manifest-digest": digest,
        "ostree.manifest": manifest,
        "ostree.container.image-config": config,
    }
    options = [f"--add-metadata-string={key}={value}" for key, value in metadata.items()]
    owner = ["--owner-uid=0", "--owner-gid=0"]
    done = subprocess.run(
        [
            "ostree",
            "commit",
            f"--repo={repo.path.resolve()}",
            "--orphan",
            *owner,
            *options,
            f"--tree=dir={tree}",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return PulledImage(
        merge_commit=done.stdout.strip(),
        manifest_digest=digest,
        manifest=parse_manifest(manifest),
        config=parse_config(config),
        already_present=False,
    )
