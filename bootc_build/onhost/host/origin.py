"""The origin file of a deployment: which image it came from and where upgrades come from.

Format: a GLib key file (groups in brackets, ``key=value``). One key is ours,
``[origin] container-image-reference``; everything else in the file belongs to others and is kept.
"""

from collections.abc import Mapping

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.record import record

_GROUP = "origin"
_KEY = "container-image-reference"
# libostree keeps facts of one boot here; they must not travel to a new deployment.
_TRANSIENT = "libostree-transient"
# What rpm-ostree writes when packages were layered or overridden: such a tree is more than its image.
_RPM_OSTREE_GROUPS = frozenset({"rpmostree", "packages", "overrides", "modules"})
# What names a plain ostree branch; an image reference takes its place.
_BRANCH_KEYS = frozenset({"refspec", "baserefspec"})
_BLANKS = " \t\r\f\v"  # ASCII's, as GLib has it
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_UNESCAPES = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def _unescape(raw: str) -> str:
    out: list[str] = []
    characters = iter(raw)
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            out.append(_UNESCAPES.get(following, "\\" + following))
        else:
            out.append(character)
    return "".join(out)


def _escape(value: str) -> str:
    escaped = "".join(_ESCAPES.get(character, character) for character in value)
    # A leading blank would be eaten by the reader.
    return "\\s" + escaped[1:] if escaped.startswith(" ") else escaped


@record
class Origin:
    """An origin file. ``groups`` maps group to key to the value as written (escapes included)."""

    groups: Mapping[str, Mapping[str, str]]

    @classmethod
    def parse(cls, text: str) -> "Origin":
        """Read a key file; comments are dropped.

        Raises:
            UserError: a line is neither a group, a comment nor a key with a value.
        """
        groups: dict[str, dict[str, str]] = {}
        current: dict[str, str] | None = None
        for number, line in enumerate(text.split("\n"), start=1):
            stripped = line.strip(_BLANKS)
            if not stripped or stripped.startswith("#"):
                continue
            if stripped.startswith("[") and stripped.endswith("]"):
                current = groups.setdefault(stripped[1:-1], {})
                continue
            key, equals, value = line.partition("=")
            if current is None or not equals:
                raise UserError(
                    f"The origin file is damaged at line {number}: {line!r}.",
                    "Look at /ostree/deploy/*/deploy/*.origin.",
                )
            current[key.strip(_BLANKS)] = value.strip("\r").lstrip(_BLANKS)
        return cls(groups)

    @classmethod
    def of_image(cls, reference: str) -> "Origin":
        """A new origin that tracks an image, in the form ``ostree-unverified-registry:IMAGE`` and its like."""
        return cls({_GROUP: {_KEY: _escape(reference)}})

    @property
    def image(self) -> str | None:
        """The image reference in its origin form, or nothing where the deployment has no image."""
        raw = self.groups.get(_GROUP, {}).get(_KEY)
        return None if raw is None else _unescape(raw)

    @property
    def refspec(self) -> str | None:
        """The ostree branch that a deployment without an image came from (``remote:branch``)."""
        raw = self.groups.get(_GROUP, {}).get("refspec")
        return None if raw is None else _unescape(raw)

    @property
    def incompatible(self) -> bool:
        """Whether rpm-ostree changed the tree locally, which an image upgrade would silently undo."""
        return not _RPM_OSTREE_GROUPS.isdisjoint(self.groups)

    def lasting(self) -> "Origin":
        """This origin without what was true of one deployment only, for another of the same image."""
        return Origin({name: keys for name, keys in self.groups.items() if name != _TRANSIENT})

    def tracking(self, reference: str) -> "Origin":
        """This origin turned to another image, for a new deployment: foreign groups stay."""
        groups = {
            name: dict(keys)
            for name, keys in self.groups.items()
            if name != _TRANSIENT and name not in _RPM_OSTREE_GROUPS
        }
        own = {key: raw for key, raw in groups.get(_GROUP, {}).items() if key not in _BRANCH_KEYS}
        groups[_GROUP] = {**own, _KEY: _escape(reference)}
        return Origin(groups)

    def serialise(self) -> str:
        """The file's text."""
        return "\n".join(
            "".join([f"[{name}]\n", *(f"{key}={raw}\n" for key, raw in keys.items())])
            for name, keys in self.groups.items()
        )
