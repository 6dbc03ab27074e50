"""Who has to vouch for an image: what the reference asks for, and what policy.json says."""

import json
import os
from pathlib import Path
from typing import Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.reference import ImageReference, Verification

_SYSTEM_POLICIES: Final = (
    Path("/etc/containers/policy.json"),
    Path("/usr/share/containers/policy.json"),
)

_ACCEPT: Final = "insecureAcceptAnything"
_ENFORCING_PROTOCOL: Final = (0, 2, 6)


def find_policy() -> Path | None:
    """The policy.json that skopeo reads for this user, if there is one."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(  # noqa: PTH118 - HOME may be unset
        os.environ.get("HOME", "/root"), ".config"
    )
    candidates = (Path(home) / "containers/policy.json", *_SYSTEM_POLICIES)
    return next((path for path in candidates if path.exists()), None)


def accepts_anything(policy: Path) -> bool:
    """Whether a policy's default is to take any image.

    Raises:
        UserError: it cannot be read.
    """
    try:
        document = json.loads(policy.read_text())
        rules = document["default"]
        return any(rule["type"] == _ACCEPT for rule in rules)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise UserError(f"The signature policy {policy} cannot be read: {exc}") from exc


def asks_nothing_of_layouts() -> bool:
    """Whether policy.json takes any image from an OCI layout; also when there is none.

    Raises:
        UserError: it cannot be read.
    """
    policy = find_policy()
    if policy is None:
        return True
    return accepts_anything(policy) and "oci" not in json.loads(policy.read_text()).get(
        "transports", {}
    )


def asks_nothing(policy: Path | None) -> bool:
    """Whether a policy takes every image from everywhere; no policy does.

    Raises:
        UserError: it cannot be read.
    """
    if policy is None:
        return True
    if not accepts_anything(policy):
        return False
    try:
        scopes = [
            rules
            for transport in json.loads(policy.read_text()).get("transports", {}).values()
            for rules in transport.values()
        ]
        return all(rule["type"] == _ACCEPT for rules in scopes for rule in rules)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise UserError(f"The signature policy {policy} cannot be read: {exc}") from exc


def check_enforced(image: ImageReference, protocol: str) -> None:
    """Refuse to fetch through a proxy that would not look at the policy.

    skopeo's image proxy obeys policy.json since 1.13, which speaks protocol 0.2.6; the one of Debian 12 fetches
    whatever it is asked for.

    Args:
        image: what is to be fetched.
        protocol: version of the proxy's protocol.

    Raises:
        UserError: there are rules, and nobody would keep them.
    """
    policy = find_policy()
    version = tuple(int(part) for part in protocol.split(".") if part.isdigit())
    if version >= _ENFORCING_PROTOCOL or asks_nothing(policy):
        return
    raise UserError(
        f"'{image.display}' is subject to {policy}, which this skopeo does not obey when it streams an image.",
        "Install skopeo 1.13 or later.",
    )


def policy_arguments(image: ImageReference) -> list[str]:
    """Skopeo's arguments for an image's policy.

    Raises:
        UserError: the reference demands a check that this host would not make.
    """
    policy = find_policy()
    match image.policy.verification:
        case Verification.INSECURE:
            # policy.json still rules if there is one. Without it skopeo refuses everything, though nobody asked
            # it to check.
            return [] if policy else ["--insecure-policy"]
        case Verification.CONTAINER_POLICY:
            if policy is None or accepts_anything(policy):
                raise UserError(
                    f"'{image.display}' has to be signed, but {policy or 'no policy.json'} accepts anything by default.",
                    "Set the default to 'reject' in /etc/containers/policy.json and name the keys, "
                    "or switch with --no-signature-verification.",
                )
            return []
        case Verification.OSTREE_REMOTE:
            raise UserError(
                f"'{image.display}' has to be signed by the ostree remote '{image.policy.remote}', "
                "which cannot be checked for container images with layers.",
                "Switch to the same image with --enforce-container-sigpolicy or --no-signature-verification.",
            )
