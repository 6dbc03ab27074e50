"""Which container images a system binds: links in ``/usr/lib/bootc/bound-images.d`` to quadlet files.

A link ends in ``.image`` or ``.container`` and leads to a file of that kind (podman-systemd.unit(5)), of which
only ``Image=`` is read. Rules and refusals are upstream's; where a link or a value is wrong, the file is named.
"""

from pathlib import PurePosixPath
from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.image_tree import Tree, drop_in_names, resolve

DIRECTORY: Final = "usr/lib/bootc/bound-images.d"
_SECTIONS: Final = {".image": "Image", ".container": "Container"}
_NESTED: Final = (".image", ".build")


def bound_images(tree: Tree) -> tuple[str, ...]:
    """The images that a system binds, in the order of their links' names; each once.

    Raises:
        UserError: a link or the file that it leads to is wrong.
    """
    images: dict[str, None] = {}
    for name in drop_in_names(tree, DIRECTORY):
        path = f"{resolve(tree, DIRECTORY)}/{name}"
        section = _SECTIONS.get(PurePosixPath(name).suffix)
        if tree.link(path) is None:
            raise UserError(
                f"/{path} is not a symbolic link.",
                "Put the quadlet file elsewhere, for example in /usr/share/containers/systemd, and link to it.",
            )
        if section is None:
            raise UserError(
                f"/{path} ends neither in .image nor in .container.", "Name the link as its file."
            )
        text = tree.text(resolve(tree, path))
        if text is None:
            raise UserError(
                f"/{path} leads to {tree.link(path)}, which is not there.",
                "Make the file in the Containerfile, or remove the link.",
            )
        images[_image(text, section, f"/{path}")] = None
    return tuple(images)


def parse_unit(text: str) -> dict[tuple[str, str], str]:
    """Read a unit file: (section, key) to value, the last one where there are several (systemd.syntax(7))."""
    values: dict[tuple[str, str], str] = {}
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith(("#", ";")):
            continue
        if stripped.startswith("[") and stripped.endswith("]"):
            section = stripped[1:-1]
        elif "=" in stripped:
            key, _equals, value = stripped.partition("=")
            values[section, key.strip()] = value.strip()
    return values


def _image(text: str, section: str, where: str) -> str:
    values = parse_unit(text)
    raw = values.get((section, "Image"))
    if not raw:
        raise UserError(f"{where} has no Image= in [{section}].", "Name the image there.")
    if section == "Image" and (section, "AuthFile") in values:
        raise UserError(
            f"{where}: AuthFile= is not supported by bound images.",
            "Put the credentials into /etc/ostree/auth.json.",
        )
    image = _without_specifiers(raw, where)
    if image.endswith(_NESTED):
        raise UserError(
            f"{where}: Image={image} names another quadlet file.", "Bind that file instead."
        )
    return image


def _without_specifiers(value: str, where: str) -> str:
    plain = value.split("%%")
    if any("%" in part for part in plain):
        raise UserError(
            f"{where}: Systemd specifiers are not supported by bound bootc images: {value}",
            "Write the name out; a percent sign of its own is written as %%.",
        )
    return "%".join(plain)
