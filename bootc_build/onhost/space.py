"""How much room an image will take, told from its manifest before the first byte of a layer is fetched."""

from collections.abc import Iterable
from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.manifest import Descriptor
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.ostree.repo import Repo

# Ordinary systems grow by a factor between 2 and 3 when they are unpacked; the lower one, so that nothing is
# refused that would have fitted.
_GROWTH: Final = 2.0
_UNCOMPRESSED_SIZE: Final = "io.containers.estargz.uncompressed-size"


class NoSpaceError(UserError):
    """An image does not fit."""


def unpacked_bytes(blob: Descriptor, growth: float) -> int:
    """Bytes that a layer takes when it is unpacked.

    Args:
        blob: its descriptor. eStargz notes the size among the annotations; what is not compressed has its own.
        growth: for the others, how many times larger layers are unpacked.
    """
    noted = blob.annotations.get(_UNCOMPRESSED_SIZE, "")
    if noted.isdigit():
        return int(noted)
    if blob.media_type.endswith("tar"):
        return blob.size
    return int(blob.size * growth)


def measured_growth(known: Iterable[tuple[int, int]]) -> float:
    """How many times larger the layers that are here already became.

    Args:
        known: bytes of blob and of tar, for each compressed layer of which both are known.
    """
    blobs = tars = 0
    for blob, tar in known:
        blobs, tars = blobs + blob, tars + tar
    return tars / blobs if blobs else _GROWTH


def check_space(
    repo: Repo,
    image: ImageReference,
    missing: Iterable[Descriptor],
    growth: float,
    spare: int = 0,
) -> None:
    """Refuse an image that does not fit.

    Args:
        repo: where it is to go.
        image: names it in the error.
        missing: the layers that have to be fetched.
        growth: see `unpacked_bytes`.
        spare: bytes that have to be free beside it.

    Raises:
        NoSpaceError: it needs more than is free; says how much of both.
    """
    needed = sum(unpacked_bytes(blob, growth) for blob in missing)
    free = repo.free_bytes()
    if needed and needed + spare > free:
        raise NoSpaceError(
            f"'{image.display}' needs about {(needed + spare) // 1_000_000} MB in {repo.path}, where "
            f"{max(0, free) // 1_000_000} MB are free.",
            "Make room, for example by removing files from /var, then try again.",
        )
