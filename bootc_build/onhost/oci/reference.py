"""Which image, where it is, and who vouches for it.

Three spellings of the same record: the origin file's (``ostree-unverified-registry:quay.io/a/b:1``), the
one that skopeo reads (``docker://quay.io/a/b:1``), and the pair of transport and name that the command
line and the status document use (``registry``, ``quay.io/a/b:1``).
"""

import re
from enum import Enum
from typing import Final, Self

from bootc_build.onhost.errors import UsageError
from bootc_build.onhost.record import record, replace

TRANSPORTS: Final = (
    "registry",
    "oci",
    "oci-archive",
    "containers-storage",
    "docker-archive",
    "docker-daemon",
    "dir",
)

# Grammar of a docker reference: the registry's name, lower-case path components, tag and digest.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY_NAME: Final = re.compile(
    rf"(?:(?P<host>[A-Za-z0-9.\-]+(?::[0-9]+)?|\[[0-9A-Fa-f:]+\](?::[0-9]+)?)/)?"
    rf"(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}))?"
    r"(?:@(?P<digest>[a-z0-9]+(?:[.+_\-][a-z0-9]+)*:[0-9A-Fa-f]{32,}))?"
)


_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")


class Verification(Enum):
    """Who has to vouch for an image before it is imported."""

    INSECURE = "insecure"
    CONTAINER_POLICY = "container-policy"
    OSTREE_REMOTE = "ostree-remote"


@record
class SignaturePolicy:
    """How signatures are checked.

    Args:
        verification: by nobody beyond the default of policy.json, by policy.json, or by an ostree remote's keys.
        remote: name of the ostree remote; empty for the other two.
    """

    verification: Verification
    remote: str = ""


INSECURE: Final = SignaturePolicy(Verification.INSECURE)
CONTAINER_POLICY: Final = SignaturePolicy(Verification.CONTAINER_POLICY)


def ostree_remote(name: str) -> SignaturePolicy:
    """Policy: the ostree commit inside is signed by a key of this remote."""
    return SignaturePolicy(Verification.OSTREE_REMOTE, name)


@record
class ImageReference:
    """One image: transport, name in that transport, signature policy.

    Args:
        transport: one of ``TRANSPORTS``.
        name: what the transport calls it: ``quay.io/a/b:latest``, ``/path/to/layout:tag``.
        policy: who has to vouch for it.

    Raises:
        UsageError: unknown transport, empty or malformed name.
    """

    transport: str
    name: str
    policy: SignaturePolicy = INSECURE

    def __post_init__(self) -> None:
        if self.transport not in TRANSPORTS:
            raise UsageError(
                f"'{self.transport}' is not a transport for images.",
                f"Known transports: {', '.join(TRANSPORTS)}",
            )
        _check_name(self.transport, self.name)

    @classmethod
    def parse_origin(cls, text: str) -> Self:
        """Read the value of ``container-image-reference=`` in an origin file.

        Raises:
            UsageError: not one of upstream's forms.
        """
        scheme, colon, rest = text.partition(":")
        if not colon:
            raise _bad_origin(text)
        if scheme == "ostree-unverified-registry":
            return cls("registry", rest, INSECURE)
        if scheme == "ostree-unverified-image":
            return cls.parse_transport_qualified(rest, INSECURE)
        if scheme == "ostree-image-signed":
            return cls.parse_transport_qualified(rest, CONTAINER_POLICY)
        if scheme in ("ostree-remote-registry", "ostree-remote-image"):
            remote, colon, image = rest.partition(":")
            if not colon or not remote:
                raise _bad_origin(text)
            if scheme == "ostree-remote-registry":
                return cls("registry", image, ostree_remote(remote))
            return cls.parse_transport_qualified(image, ostree_remote(remote))
        raise _bad_origin(text)

    @classmethod
    def parse_transport_qualified(cls, text: str, policy: SignaturePolicy = INSECURE) -> Self:
        """Read skopeo's spelling; ``registry:NAME`` is another word for ``docker://NAME``.

        Raises:
            UsageError: unknown transport or malformed name.
        """
        transport, colon, name = text.partition(":")
        if not colon:
            raise UsageError(
                f"'{text}' does not say by which transport the image is reached.",
                "Write for example docker://quay.io/example/os:latest or oci:/path/to/layout:tag",
            )
        if transport == "docker":
            if not name.startswith("//"):
                raise UsageError(
                    f"'{text}' is not an image of a registry.", f"Write docker://{name}"
                )
            return cls("registry", name.removeprefix("//"), policy)
        return cls(transport, name, policy)

    @classmethod
    def parse_cli(
        cls, target: str, transport: str = "registry", policy: SignaturePolicy = INSECURE
    ) -> Self:
        """Read what a user typed for TARGET and ``--transport``.

        Raises:
            UsageError: unknown transport or malformed name.
        """
        if transport == "docker":
            transport = "registry"
        if transport == "registry" and "://" in target:
            raise UsageError(
                f"'{target}' has a transport in front, but --transport says {transport}.",
                "Give the name alone (quay.io/example/os:latest), and --transport for other sources.",
            )
        return cls(transport, target, policy)

    def to_origin(self) -> str:
        """The value for ``container-image-reference=``; `parse_origin` gives the same record back."""
        match self.policy.verification:
            case Verification.OSTREE_REMOTE:
                return f"ostree-remote-image:{self.policy.remote}:{self.skopeo}"
            case Verification.CONTAINER_POLICY:
                return f"ostree-image-signed:{self.skopeo}"
            case Verification.INSECURE:
                if self.transport == "registry":
                    return f"ostree-unverified-registry:{self.name}"
                return f"ostree-unverified-image:{self.skopeo}"

    @property
    def skopeo(self) -> str:
        """Skopeo's spelling: ``docker://quay.io/a/b:1``, ``oci:/path:tag``."""
        if self.transport == "registry":
            return f"docker://{self.name}"
        return f"{self.transport}:{self.name}"

    @property
    def display(self) -> str:
        """What a person is shown: the bare name for a registry, else with the transport in front."""
        return self.name if self.transport == "registry" else self.skopeo

    @property
    def registry(self) -> str | None:
        """Host and port of the registry, or None when it is not named or none is asked."""
        found = _REGISTRY_NAME.fullmatch(self.name) if self.transport == "registry" else None
        host = found["host"] if found else None
        # The first component is a host only when it cannot be a path component: docker's own rule.
        return host if host and (host == "localhost" or "." in host or ":" in host) else None

    @property
    def digest(self) -> str | None:
        """Manifest digest that the name pins (``name@sha256:…``), if it does."""
        found = _REGISTRY_NAME.fullmatch(self.name) if self.transport == "registry" else None
        return found["digest"] if found else None

    def with_tag(self, tag: str) -> Self:
        """The same repository under another tag; a digest is dropped.

        Raises:
            UsageError: the transport has no tags, or the tag is malformed.
        """
        if _TAG.fullmatch(tag) is None:
            raise UsageError(
                f"'{tag}' is no tag.", "Write letters, digits, '_', '.' and '-', 128 at most."
            )
        if self.transport in ("oci", "oci-archive"):
            return replace(self, name=f"{self.name.partition(':')[0]}:{tag}")
        if self.transport not in ("registry", "containers-storage", "docker-daemon"):
            raise UsageError(
                f"{self.display} comes by the transport '{self.transport}', which has no tags to choose from.",
                "Use: bootc switch",
            )
        repository = self.name.partition("@")[0]
        directory, slash, last = repository.rpartition("/")
        return replace(self, name=f"{directory}{slash}{last.partition(':')[0]}:{tag}")

    def with_digest(self, digest: str) -> Self:
        """The image of a registry's repository that has this manifest; a tag is dropped.

        Raises:
            UsageError: the transport knows no digests, or it is malformed.
        """
        if self.transport != "registry":
            raise UsageError(f"{self.display} comes by a transport that knows no digests.")
        directory, slash, last = self.name.partition("@")[0].rpartition("/")
        return replace(self, name=f"{directory}{slash}{last.partition(':')[0]}@{digest}")


def _check_name(transport: str, name: str) -> None:
    if not name or name != name.strip() or not name.isprintable():
        raise UsageError(
            f"{name!r} is not the name of an image.", "Write for example quay.io/example/os:latest"
        )
    if transport == "registry" and not _is_registry_name(name):
        raise UsageError(
            f"'{name}' is not the name of an image in a registry.",
            "Write [HOST[:PORT]/]PATH[:TAG][@DIGEST], the path in lower case.",
        )


def _is_registry_name(name: str) -> bool:
    found = _REGISTRY_NAME.fullmatch(name)
    if found is None:
        return False
    # What cannot be a host is the first component of the path, and in lower case like the rest.
    host = found["host"] or "localhost"
    return host == "localhost" or any(each in host for each in ".:") or host == host.lower()


def _bad_origin(text: str) -> UsageError:
    return UsageError(
        f"'{text}' is not an image reference of an origin file.",
        "Known forms: ostree-unverified-registry:IMAGE, ostree-unverified-image:TRANSPORT:IMAGE, "
        "ostree-image-signed:TRANSPORT:IMAGE, ostree-remote-registry:REMOTE:IMAGE, "
        "ostree-remote-image:REMOTE:TRANSPORT:IMAGE",
    )
