"""Apply an edited specification: another image, or another boot order."""

from typing import TYPE_CHECKING

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host.bring import bring
from bootc_build.onhost.host.document import HostSpec, ImageReferenceStatus, Signature
from bootc_build.onhost.host.rollback import rollback
from bootc_build.onhost.host.stage import Queued, stage
from bootc_build.onhost.oci.reference import (
    CONTAINER_POLICY,
    INSECURE,
    ImageReference,
    SignaturePolicy,
    ostree_remote,
)

if TYPE_CHECKING:
    from bootc_build.onhost.host.booted import BootedSystem
    from bootc_build.onhost.progress import Progress

_REMEDY = "Look at the form of a specification with: bootc status --format=yaml"


def parse_spec(document: object) -> HostSpec:
    """The ``spec`` of a host document; everything else in the document is ignored.

    Raises:
        UserError: it is none; names the field.
    """
    top = _mapping(document, "the document")
    spec = _mapping(top.get("spec"), "spec")
    _only(spec, {"image", "bootOrder"}, "spec")
    order = spec.get("bootOrder", "default")
    if order not in ("default", "rollback"):
        raise UserError(f"spec.bootOrder is {order!r}, not 'default' or 'rollback'.", _REMEDY)
    image = None if spec.get("image") is None else _image(spec["image"])
    return HostSpec(image, "rollback" if order == "rollback" else "default")


def _image(value: object) -> ImageReferenceStatus:
    image = _mapping(value, "spec.image")
    _only(image, {"image", "transport", "signature"}, "spec.image")
    name, transport = image.get("image"), image.get("transport")
    if not isinstance(name, str) or not isinstance(transport, str):
        missing = "transport" if isinstance(name, str) else "image"
        raise UserError(f"spec.image.{missing} is missing, or no text.", _REMEDY)
    return ImageReferenceStatus(name, transport, _signature(image.get("signature")))


def _signature(value: object) -> Signature | None:
    if value is None or value == "insecure":
        return None  # the default, as the status writes it
    if value == "containerPolicy":
        return "containerPolicy"
    if isinstance(value, dict) and list(value) == ["ostreeRemote"]:
        return {"ostreeRemote": str(value["ostreeRemote"])}
    raise UserError(
        f"spec.image.signature is {value!r}.",
        "Known are: containerPolicy, insecure, and ostreeRemote with the name of a remote.",
    )


def _mapping(value: object, what: str) -> dict[object, object]:
    if not isinstance(value, dict):
        raise UserError(f"In the specification {what} is not a mapping.", _REMEDY)
    return value


def _only(value: dict[object, object], known: set[str], what: str) -> None:
    unknown = sorted(str(key) for key in value if key not in known)
    if unknown:
        raise UserError(f"{what} has the unknown field '{unknown[0]}'.", _REMEDY)


def reference_of(image: ImageReferenceStatus) -> ImageReference:
    """The image reference that the document spells.

    Raises:
        UsageError: unknown transport or malformed name.
    """
    policy: SignaturePolicy = INSECURE
    if image.signature == "containerPolicy":
        policy = CONTAINER_POLICY
    elif isinstance(image.signature, dict):
        policy = ostree_remote(image.signature["ostreeRemote"])
    return ImageReference(image.transport, image.image, policy)


def check_transition(old: HostSpec, new: HostSpec) -> None:
    """Refuse what cannot be done at once.

    Raises:
        UserError: an image and the boot order changed together, or the image is gone.
    """
    if old.boot_order != new.boot_order and old.image != new.image:
        raise UserError(
            "Invalid state transition: rollback and image change",
            "Change the boot order or the image, not both at once.",
        )
    if new.image is None:
        raise UserError("Missing image in specification", _REMEDY)
    reference_of(new.image)


def apply_spec(
    system: "BootedSystem", old: HostSpec, new: HostSpec, progress: "Progress"
) -> Queued | bool:
    """Bring the system to a specification.

    Args:
        system: the running system, its lock held.
        old: what the editor was shown.
        new: what came back, different from it.
        progress: hears of the layers.

    Returns:
        What was queued; or, after a change of the boot order, whether the rollback boots next.

    Raises:
        UserError: somebody else changed the system meanwhile; the image cannot be had.
    """
    check_transition(old, new)
    if system.host.spec != old:
        raise UserError(
            "Somebody else changed the specification meanwhile.", "Look at it, and edit it again."
        )
    if old.boot_order != new.boot_order:
        return rollback(system)
    assert new.image is not None  # noqa: S101 - checked above
    target = reference_of(new.image)
    pulled = bring(system, target, progress)
    return stage(system, target, pulled, progress=progress)
