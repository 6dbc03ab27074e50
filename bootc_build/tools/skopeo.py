"""skopeo: images from one transport to another."""

from pathlib import Path

from bootc_build.onhost.process import run


def export_uncompressed(image_id: str, layout: Path, tag: str) -> None:
    """Write an image of local storage to an OCI layout, its layers as plain tar.

    Args:
        image_id: 64 hex digits.
        layout: folder, made by this.
        tag: the image's name in the layout.

    Raises:
        MissingProgramError, CommandError.
    """
    # Compressing would take longer than everything else together, to be undone in the next step.
    run(
        [
            "skopeo",
            "copy",
            "--quiet",
            "--dest-oci-accept-uncompressed-layers",
            "--remove-signatures",
            f"containers-storage:@{image_id}",
            f"oci:{layout}:{tag}",
        ],
        remedy="Is there space left? See: df -h",
    )
