"""What skopeo and a registry say when an image cannot be had, in words that help."""

from pathlib import Path
from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.reference import ImageReference


class FetchError(UserError):
    """An image cannot be had from where it should come from."""


class ImageNotFoundError(FetchError):
    """The source answers, but has no such image."""


class AccessDeniedError(FetchError):
    """The registry wants other credentials."""


class CertificateError(FetchError):
    """The source is not who it says it is, or the clock is wrong."""


class HostConfigurationError(FetchError):
    """Files of this host are wrong, or forbid it; nothing was asked, and waiting does not mend it."""


class TransientFetchError(FetchError):
    """It may be better the next time: the network, a registry that is busy or down, a connection that broke."""


class TooManyRequestsError(TransientFetchError):
    """The registry wants to be left alone for a while."""


class StalledError(TransientFetchError):
    """Nothing more arrives, though the connection stands."""


def explain(image: ImageReference, said: str, auth_file: Path | None) -> FetchError:
    """The error for what skopeo said about an image.

    Args:
        image: which one.
        said: skopeo's message.
        auth_file: credentials that were used; None when asked anonymously.
    """
    said = " ".join(said.split())  # some of it comes as a list in lines
    low = said.lower()
    if image.transport == "docker-daemon" and "docker daemon" in low:
        return FetchError(
            f"'{image.display}' cannot be read, the docker daemon does not answer: {said}",
            "Start it: systemctl start docker",
        )
    for words, kind, make in _KINDS:
        if any(word in low for word in words):
            fact, remedy = make(image.display, image.registry or "the registry", said, auth_file)
            if kind is ImageNotFoundError:
                remedy = _LOCAL_REMEDIES.get(image.transport, remedy)
            return kind(fact, remedy)
    if image.transport in _LOCAL_REMEDIES:
        return FetchError(
            f"'{image.display}' cannot be read: {said}", _LOCAL_REMEDIES[image.transport]
        )
    if any(words in low for words in _UNREACHABLE):
        return TransientFetchError(
            f"'{image.display}' cannot be fetched, {image.registry or 'the registry'} does not answer: {said}",
            "Check the network and the registry's name, then try again.",
        )
    return TransientFetchError(
        f"'{image.display}' cannot be fetched: {said}",
        "Try again; layers that are complete are not fetched again.",
    )


def _busy(name: str, where: str, said: str, _auth_file: Path | None) -> tuple[str, str]:
    return (
        f"{where} limits how much may be fetched, and refused '{name}': {said}",
        "Log in, or try again later; layers that are complete are not fetched again.",
    )


def _not_found(name: str, _where: str, said: str, _auth_file: Path | None) -> tuple[str, str]:
    return f"There is no image '{name}': {said}", "Check name and tag, and that it was pushed."


def _plain(name: str, where: str, said: str, _auth_file: Path | None) -> tuple[str, str]:
    return (
        f"{where} does not speak TLS, so '{name}' cannot be fetched safely: {said}",
        f'To allow it, declare [[registry]] location="{where}" insecure=true in /etc/containers/registries.conf.d/',
    )


def _untrusted(name: str, where: str, said: str, _auth_file: Path | None) -> tuple[str, str]:
    return (
        f"The certificate of {where} is not trusted, so '{name}' cannot be fetched safely: {said}",
        f"Check this machine's clock, and put the registry's CA into /etc/containers/certs.d/{where}/.",
    )


def _denied(name: str, where: str, said: str, auth_file: Path | None) -> tuple[str, str]:
    used = f"the credentials in {auth_file}" if auth_file else "no credentials"
    return (
        f"{where} does not give '{name}' to {used}: {said}",
        f"Log in: skopeo login --authfile {auth_file or '/etc/ostree/auth.json'} {where}",
    )


def _bad_credentials(name: str, where: str, said: str, auth_file: Path | None) -> tuple[str, str]:
    return (
        f"The credentials in {auth_file or 'the configured place'} cannot be read, to fetch '{name}': {said}",
        f"Mend the file, or write it anew: skopeo login --authfile {auth_file or '/etc/ostree/auth.json'} {where}",
    )


def _configured(name: str, _where: str, said: str, _auth_file: Path | None) -> tuple[str, str]:
    return (
        f"This host's configuration keeps '{name}' from being fetched: {said}",
        "Mend what is named below /etc/containers; see containers-registries.conf(5) and containers-certs.d(5).",
    )


def _unsigned(name: str, _where: str, said: str, _auth_file: Path | None) -> tuple[str, str]:
    return (
        f"The signature policy does not accept '{name}': {said}",
        "See /etc/containers/policy.json; containers-policy.json(5) explains it.",
    )


_LOCAL_REMEDIES: Final = {
    "containers-storage": "Check name and tag; what is there is shown by: podman images",
    "docker-daemon": "Check name and tag; what is there is shown by: docker images",
    "oci": "Check path and tag, and that the layout was written completely.",
    "oci-archive": "Check the path, and that the file was written completely.",
    "docker-archive": "Check the path, and that the file was written completely.",
    "dir": "Check the path, and that the folder was written completely.",
}
# The first that fits counts.
_KINDS: Final = (
    (("getting username and password",), HostConfigurationError, _bad_credentials),
    (
        (
            "loading registries configuration",
            "is blocked in",
            "parsing /etc/containers/",
            "parsing /usr/share/containers/",
            "for client certificate",
            "missing client certificate",
        ),
        HostConfigurationError,
        _configured,
    ),
    (
        ("toomanyrequests", "too many requests", "status: 429", "status code 429", "registry 429"),
        TooManyRequestsError,
        _busy,
    ),
    (
        (
            "manifest unknown",
            "does not resolve to an image id",
            "name unknown",
            "no such file",
            "not known",
            "no descriptor found",
            ": not found",
            "registry 404",
        ),
        ImageNotFoundError,
        _not_found,
    ),
    (
        (
            "server gave http response to https client",
            "first record does not look like a tls handshake",
        ),
        FetchError,
        _plain,
    ),
    (("x509:", "tls: failed to verify", "certificate"), CertificateError, _untrusted),
    (
        (
            "unauthorized",
            "authentication required",
            "invalid username/password",
            "denied",
            "registry 401",
            "registry 403",
            "status: 401",
            "status: 403",
        ),
        AccessDeniedError,
        _denied,
    ),
    (("policy", "signature"), AccessDeniedError, _unsigned),
)
_UNREACHABLE: Final = (
    "connection refused",
    "no such host",
    "i/o timeout",
    "no route",
    "unreachable",
)
