"""Findings and differences for people."""

import json
from collections.abc import Iterator, Sequence
from itertools import groupby

from bootc_build.inspection.compare import Difference
from bootc_build.inspection.records import (
    Contents,
    FileSystem,
    InspectedDisk,
    InspectedImage,
    Partition,
    SecureBoot,
    SignedProgram,
)
from bootc_build.tools.sizes import in_words

_SECTIONS = {
    "diskBytes": "Size",
    "table": "Partition table",
    "identifier": "Identifier",
    "partitions": "Partitions",
    "logicalVolumes": "Logical volumes",
    "bootEntries": "Boot entries",
    "deployments": "Deployments",
    "secureBoot": "Secure Boot",
    "packages": "Packages",
    "kernelArguments": "Kernel arguments",
    "contents": "System",
    "sizeBytes": "Size",
}
_SHORT = 12


def lines(found: InspectedDisk | InspectedImage, *, packages: bool) -> Iterator[str]:
    """The lines to print.

    Args:
        found: what was found.
        packages: list every package instead of their number.
    """
    if isinstance(found, InspectedDisk):
        yield from _disk(found, packages=packages)
    else:
        yield from _image(found, packages=packages)
    yield from _secure_boot(found.secure_boot)
    for note in found.notes:
        yield f"Note: {note}"


def difference_lines(differences: Sequence[Difference]) -> Iterator[str]:
    """The lines to print: "-" only in the old one, "+" only in the new one, "~" both."""
    for section, members in groupby(differences, key=lambda each: each.section):
        yield f"{_SECTIONS.get(section, section.capitalize())}:"
        for each in members:
            what = f"{each.what}: " if each.what else ""
            if each.old is None:
                yield f"  + {what}{_value(each.new)}"
            elif each.new is None:
                yield f"  - {what}{_value(each.old)}"
            else:
                yield f"  ~ {what}{_value(each.old)} -> {_value(each.new)}"


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _disk(disk: InspectedDisk, *, packages: bool) -> Iterator[str]:
    sizes = f"{in_words(disk.disk_bytes)} disk, {in_words(disk.stored_bytes)} stored"
    yield f"{disk.file}: {disk.format}, {sizes}"
    yield f"Partition table: {disk.table}, {disk.identifier}"
    for part in disk.partitions:
        yield f"  {_partition(part)}"
    for volume in disk.logical_volumes:
        size = "" if volume.size is None else f" {in_words(volume.size)}"
        yield f"Logical volume {volume.path}:{size}{_inside(volume.file_system)}"
    for number, entry in enumerate(disk.boot_entries):
        yield f"Boot entry {entry.file}{' (boots first)' if number == 0 else ''}: {entry.title}"
        yield f"  kernel      {entry.kernel}"
        yield f"  arguments   {' '.join(entry.arguments)}"
        yield f"  deployment  {entry.deployment or 'unknown'}"
    if not disk.boot_entries:
        yield "No boot entries were found"
    for deployment in disk.deployments:
        yield f"Deployment {deployment.name}{' (pinned)' if deployment.pinned else ''}:"
        yield f"  image       {deployment.image or 'none'}"
        yield f"  digest      {deployment.digest or 'none'}"
        yield f"  image id    {deployment.image_id or 'none'}"
        yield f"  version     {deployment.version or 'none'}"
        yield from _contents(deployment.contents, packages=packages)
    if not disk.deployments:
        yield "No deployments were found"


def _partition(part: Partition) -> str:
    text = f"{part.number} {part.name or '-'}: {part.purpose}, {in_words(part.size)}"
    return f"{text} from {in_words(part.start)}{_inside(part.file_system)}"


def _inside(inside: FileSystem | None) -> str:
    if inside is None:
        return ""
    text = f"; {inside.kind} {inside.uuid}"
    if inside.label:
        text += f" '{inside.label}'"
    return text if inside.used_bytes is None else f"{text}, {in_words(inside.used_bytes)} used"


def _image(image: InspectedImage, *, packages: bool) -> Iterator[str]:
    yield f"{image.image}: {'bootable ' if image.bootable else ''}image for {image.architecture}"
    yield f"  names       {', '.join(image.names) or 'none'}"
    yield f"  id          {image.identifier}"
    yield f"  digest      {image.digest}"
    yield f"  created     {image.created}"
    yield f"  size        {in_words(image.size_bytes)}"
    yield f"  arguments   {' '.join(image.kernel_arguments) or 'none'}"
    yield from _contents(image.contents, packages=packages)
    for layer in image.layers:
        yield f"Layer {layer.diff_id.removeprefix('sha256:')[:_SHORT]}  {layer.created_by}"
    for name, value in image.labels.items():
        yield f"Label {name}={value}"


def _contents(contents: Contents, *, packages: bool) -> Iterator[str]:
    yield f"  system      {contents.system or 'unknown'}"
    yield f"  kernels     {', '.join(contents.kernels) or 'none'}"
    if contents.packages is None:
        yield "  packages    no database that can be read here"
        return
    yield f"  packages    {len(contents.packages)}"
    if packages:
        for name, version in contents.packages.items():
            yield f"    {name} {version}"


def _secure_boot(found: SecureBoot) -> Iterator[str]:
    if found.unchecked:
        yield f"Secure Boot: not checked. {found.unchecked}"
        return
    if found.programs:
        trusts = ", ".join(found.shim_trusts) or "nobody (there is no shim, or it has none)"
        yield f"Secure Boot: shim itself trusts {trusts}"
    for program in found.programs:
        yield f"  {program.path}: {_verdict(program)}"
        for signature in program.signatures:
            yield f"    signed by '{signature.subject}', issued by '{signature.issuer}'"
        if program.sbat:
            generations = (f"{name} {number}" for name, number in program.sbat.items())
            yield f"    generations {', '.join(generations)}"


def _verdict(program: SignedProgram) -> str:
    if program.intact is None:
        return "not signed"
    if not program.intact:
        return "CHANGED SINCE IT WAS SIGNED" if program.signatures else "ITS SIGNATURE IS DAMAGED"
    if program.vouched_by == "shim":
        return "signed, shim starts it"
    return "signed, for firmware that has the issuer's certificate"
