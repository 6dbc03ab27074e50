"""What skopeo and a registry say when an image cannot be had, in words that help."""

from pathlib import Path
from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.reference import ImageReference

_NOT_FOUND: Final = (
    "manifest unknown",
    "name unknown",
    "no such file",
    "not known",
    "no descriptor found",
)
_DENIED: Final = ("unauthorized", "authentication required", "denied")
_UNREACHABLE: Final = ("connection refused", "no such host", "i/o timeout", "no route")
_NO_TLS: Final = (
    "server gave http response to https client",
    "first record does not look like a tls handshake",
)


class FetchError(UserError):
    """An image cannot be had from where it should come from."""


class ImageNotFoundError(FetchError):
    """The source answers, but has no such image."""


class AccessDeniedError(FetchError):
    """The registry wants other credentials."""


def explain(image: ImageReference, said: str, auth_file: Path | None) -> FetchError:
    """The error for what skopeo said about an image.

    Args:
        image: which one.
        said: skopeo's message.
        auth_file: credentials that were used; None when asked anonymously.
    """
    name, low = image.display, said.lower()
    where = image.registry or "the registry"
    if any(words in low for words in _NOT_FOUND):
        return ImageNotFoundError(
            f"There is no image '{name}': {said}", "Check name and tag, and that it was pushed."
        )
    if any(words in low for words in _DENIED):
        used = f"the credentials in {auth_file}" if auth_file else "no credentials"
        return AccessDeniedError(
            f"{where} does not give '{name}' to {used}: {said}",
            f"Log in: skopeo login --authfile {auth_file or '/etc/ostree/auth.json'} {where}",
        )
    if any(words in low for words in _NO_TLS):
        return FetchError(
            f"{where} does not speak TLS, so '{name}' cannot be fetched safely: {said}",
            f'To allow it, declare [[registry]] location="{where}" insecure=true in /etc/containers/registries.conf.d/',
        )
    if "policy" in low or "signature" in low:
        return AccessDeniedError(
            f"The signature policy does not accept '{name}': {said}",
            "See /etc/containers/policy.json; containers-policy.json(5) explains it.",
        )
    if any(words in low for words in _UNREACHABLE):
        return FetchError(
            f"'{name}' cannot be fetched, {where} does not answer: {said}",
            "Check the network and the registry's name, then try again.",
        )
    return FetchError(
        f"'{name}' cannot be fetched: {said}",
        "Try again; layers that are complete are not fetched again.",
    )
