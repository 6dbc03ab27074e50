"""A small operating system tree, committed to a scratch sysroot by the real libostree."""

import shutil
import subprocess
from pathlib import Path

from bootc_build.onhost.oci.manifest import canonical_json, parse_config, parse_manifest
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.pull import PulledImage

GENERATOR = Path(__file__).parents[2] / "bootc_build/data/image_root/usr/libexec/bootc/grub-menu"


def make_tree(root: Path, *, version: str, kargs: str = "") -> None:
    """Lay out what libostree wants of an operating system, with a kernel that is one word."""
    for directory in ("usr/etc", "usr/bin", "usr/lib/bootc/kargs.d", "usr/libexec/bootc"):
        (root / directory).mkdir(parents=True)
    for directory in ("sysroot", "boot", "dev", "proc", "run", "sys", "tmp", "var"):
        (root / directory).mkdir()
    (root / "ostree").symlink_to("sysroot/ostree")
    modules = root / "usr/lib/modules/1.0"
    modules.mkdir(parents=True)
    (modules / "vmlinuz").write_text(f"kernel {version}")
    (modules / "initramfs.img").write_text(f"initramfs {version}")
    (root / "usr/lib/os-release").write_text(
        f'ID=test\nPRETTY_NAME="Test OS"\nVERSION_ID={version}\n'
    )
    (root / "usr/etc/fstab").write_text("# nothing here\nUUID=old /boot ext4 defaults 0 2\n")
    (root / "usr/etc/colour").write_text("image\n")
    (root / "usr/lib/version").write_text(version)
    if kargs:
        (root / "usr/lib/bootc/kargs.d/10-test.toml").write_text(kargs)
    shutil.copy(GENERATOR, root / "usr/libexec/bootc/grub-menu")


def image_documents(version: str) -> tuple[str, str, str]:
    """Manifest digest, manifest and configuration of an invented image."""
    config = canonical_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-02T03:04:05.678901234Z",
            "config": {
                "Labels": {"containers.bootc": "1", "org.opencontainers.image.version": version}
            },
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "a" * 64]},
        }
    )
    layer = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar",
        "digest": "sha256:" + "b" * 64,
        "size": 3,
    }
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": "sha256:" + (version.encode().hex() * 64)[:64],
                "size": len(config),
            },
            "layers": [layer],
        }
    )
    return "sha256:" + (version.encode().hex() * 64)[-64:], manifest, config


def commit_image(scratch: Path, repo: Repo, *, version: str = "1", kargs: str = "") -> PulledImage:
    """Commit an invented image to a repository, as an import would leave it."""
    tree = scratch / f"tree-{version}"
    make_tree(tree, version=version, kargs=kargs)
    digest, manifest, config = image_documents(version)
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
