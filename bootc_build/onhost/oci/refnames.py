"""Names of layers and images among the refs of an ostree repository, as upstream writes them."""

from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.reference import ImageReference

LAYER_PREFIX: Final = "ostree/container/blob"
IMAGE_PREFIX: Final = "ostree/container/image"
BASE_IMAGE_PREFIX: Final = "ostree/container/baseimage"
# Upstream bootc's own among them, for deployments that it made out of more than an image; others are others'.
OWN_BASE_IMAGES: Final = f"{BASE_IMAGE_PREFIX}/bootc/"


def escape(text: str) -> str:
    """Spell any text with the characters that a ref may have.

    ASCII letters, digits and ``-`` stay; ``_`` is doubled; ``/`` stays after a letter or digit unless it
    is the last character; every other character becomes ``_XX_``, its code point in hexadecimal.

    Raises:
        UserError: empty text, or a NUL in it.
    """
    if not text or "\0" in text:
        raise UserError(f"{text!r} cannot be made the name of an ostree ref.")
    out: list[str] = []
    after_alphanumeric = False
    last = len(text) - 1
    for index, char in enumerate(text):
        alphanumeric = char.isascii() and char.isalnum()
        if alphanumeric or char == "-" or (char == "/" and after_alphanumeric and index < last):
            out.append(char)
        elif char == "_":
            out.append("__")
        else:
            out.append(f"_{ord(char):02X}_")
        after_alphanumeric = alphanumeric
    return "".join(out)


def unescape(name: str) -> str:
    """The text that `escape` made this of.

    Raises:
        UserError: not something that `escape` writes.
    """
    out: list[str] = []
    index = 0
    while index < len(name):
        char = name[index]
        if char == "_":
            end = name.find("_", index + 1)
            if end < 0:
                raise _not_escaped(name)
            code = name[index + 1 : end]
            try:
                out.append(chr(int(code, 16)) if code else "_")
            except (ValueError, OverflowError) as exc:
                raise _not_escaped(name) from exc
            index = end + 1
            continue
        if not (char.isascii() and char.isalnum()) and char not in "-/":
            raise _not_escaped(name)
        out.append(char)
        index += 1
    return "".join(out)


def _not_escaped(name: str) -> UserError:
    return UserError(f"The ref name '{name}' is not escaped as container refs are.")


def layer_ref(digest: str) -> str:
    """Ref of a layer: ``sha256:ab…`` gives ``ostree/container/blob/sha256_3A_ab…``."""
    return f"{LAYER_PREFIX}/{escape(digest)}"


def image_ref(image: ImageReference) -> str:
    """Ref of an image's merge commit."""
    return f"{IMAGE_PREFIX}/{escape(image.skopeo)}"


def digest_of_layer_ref(ref: str) -> str:
    """Blob digest that a layer's ref names (with or without the prefix).

    Raises:
        UserError: not the ref of a layer.
    """
    return unescape(ref.removeprefix(f"{LAYER_PREFIX}/"))


def image_of_ref(ref: str) -> ImageReference:
    """Image that an image's ref names (with or without the prefix); the policy is not recorded there.

    Raises:
        UserError: not the ref of an image.
    """
    return ImageReference.parse_transport_qualified(unescape(ref.removeprefix(f"{IMAGE_PREFIX}/")))
