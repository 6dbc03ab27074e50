"""Look into an image of local storage: what podman knows of it, and its layers' own folders."""

from collections.abc import Iterator
from contextlib import contextmanager

from bootc_build.inspection import secure_boot, system
from bootc_build.inspection.records import InspectedImage, Layer
from bootc_build.inspection.trees import FileTree, LayeredTree
from bootc_build.tools.buildah import working_container
from bootc_build.tools.podman import LocalImage, image_store


def inspect_image(name: str) -> InspectedImage:
    """What is in an image.

    Args:
        name: name or id.

    Raises:
        UserError: it is not in local storage, or its layers cannot be read.
    """
    with image_store() as store:
        image = store.get(name)
    notes: list[str] = []
    with _tree(image) as tree:
        contents = system.read_contents(tree)
        arguments = system.kernel_arguments(tree, image.architecture, notes)
        signed = secure_boot.examine(system.efi_programs(tree))
    return InspectedImage(
        image=name,
        names=image.names,
        identifier=image.id,
        digest=image.digest,
        architecture=image.architecture,
        created=image.created.isoformat(),
        size_bytes=image.size_bytes,
        bootable=image.is_bootc,
        labels=dict(sorted(image.labels.items())),
        layers=_layers(image),
        kernel_arguments=arguments,
        contents=contents,
        secure_boot=signed,
        notes=tuple(notes),
    )


@contextmanager
def _tree(image: LocalImage) -> Iterator[FileTree]:
    if image.layer_folders:
        yield LayeredTree(image.layer_folders)
        return
    # A storage driver that keeps no folder of each layer's changes.
    with working_container(image.id) as container:
        yield LayeredTree([container.mount()])


def _layers(image: LocalImage) -> tuple[Layer, ...]:
    steps = [step.created_by for step in image.history if not step.empty_layer]
    if len(steps) != len(image.layers):
        steps = [""] * len(image.layers)
    pairs = zip(image.layers, steps, strict=True)
    return tuple(Layer(diff_id, " ".join(step.split())) for diff_id, step in pairs)
