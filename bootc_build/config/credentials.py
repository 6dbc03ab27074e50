"""What lets a user in: password hashes as crypt(5) has them, passwords, lines of authorized_keys (sshd(8))."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator

# The methods of libxcrypt as Debian builds it, except those without a prefix: any word of 13 letters is one of these.
_HASH: Final = re.compile(
    r"\$(?:y|gy|7|2[abxy]|6|5|1|3|sha1|md5(?:,rounds=[0-9]+)?)\$[^\s:;*!\\]*\$[./A-Za-z0-9]+",
    re.ASCII,
)
_LOCKED: Final = ("!", "*", "!*")
_METHODS: Final = "$y$, $gy$, $7$, $2b$, $6$, $5$"

# What `ssh -Q key-plain` has; DSA's are refused by OpenSSH 10.
_KEY_TYPES: Final = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_OPTION_NAMES: Final = frozenset(
    (
        *("agent-forwarding", "cert-authority", "command", "environment", "expiry-time", "from"),
        *("no-agent-forwarding", "no-port-forwarding", "no-pty", "no-touch-required", "no-user-rc"),
        *(
            "no-x11-forwarding",
            "permitlisten",
            "permitopen",
            "port-forwarding",
            "principals",
            "pty",
        ),
        *("restrict", "tunnel", "user-rc", "verify-required", "x11-forwarding"),
    )
)
_OPTION: Final = re.compile(r'(?P<name>[A-Za-z0-9-]+)(?:="(?:\\"|[^"])*")?')
_DATA: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def is_password_hash(text: str) -> bool:
    """Whether a text is a hash that a login can compare a password with."""
    return _HASH.fullmatch(text) is not None


def _password_hash(text: str) -> str:
    if text in _LOCKED or is_password_hash(text.removeprefix("!")):
        return text
    raise ValueError(
        f"it has to be a hash of crypt(5) ({_METHODS}; made by: openssl passwd -6), or ! for none; "
        "a plain password is said by 'password'"
    )


def _password(text: str) -> str:
    if not text or any(ord(character) < ord(" ") or character == "\x7f" for character in text):
        raise ValueError("it has to be one line, and not empty")
    return text


def _authorized_key(text: str) -> str:
    line = text.strip(" \t")
    if not line.replace("\t", " ").isprintable():
        raise ValueError("it has to be one line")
    options, rest = _split_options(line)
    for option in options:
        if option.lower() not in _OPTION_NAMES:
            raise ValueError(
                f"'{option}' is neither a type of a key nor an option (sshd(8)); {_known()}"
            )
    kind, _blank, data = rest.replace("\t", " ").partition(" ")
    data = data.lstrip(" ").partition(" ")[0]
    if kind not in _KEY_TYPES:
        raise ValueError(f"it has no key of a known type; {_known()}")
    if not data or _DATA.fullmatch(data) is None:
        raise ValueError(f"behind '{kind}' there is no key in base64")
    return line


def _known() -> str:
    return f"known types: {', '.join(_KEY_TYPES)}"


def _split_options(line: str) -> tuple[list[str], str]:
    """The names of the options that a line begins with, and what comes after them."""
    names: list[str] = []
    if line.replace("\t", " ").partition(" ")[0] in _KEY_TYPES:
        return names, line
    place = 0
    while found := _OPTION.match(line, place):
        names.append(found["name"])
        place = found.end()
        if not line.startswith(",", place):
            break
        place += 1
    rest = line[place:]
    if not names or not rest.startswith((" ", "\t")):
        raise ValueError(
            f"it has no key of a known type, or its options are no list as in sshd(8); {_known()}"
        )
    return names, rest.lstrip(" \t")


PasswordHash = Annotated[str, AfterValidator(_password_hash)]
Password = Annotated[str, AfterValidator(_password)]
AuthorizedKey = Annotated[str, AfterValidator(_authorized_key)]
