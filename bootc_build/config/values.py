"""What single values of a configuration may be: names, paths, identifiers, kernel arguments."""

import posixpath
from typing import Annotated, Final
from uuid import UUID

from pydantic import AfterValidator, Field

from bootc_build.onhost.host.kargs import DEPLOYMENT_ARGUMENT, split_command_line

# Where files of a machine may be, as opposed to those of its image.
MACHINE_PLACES: Final = ("/etc", "/var", "/home", "/root", "/srv", "/opt", "/mnt", "/usr/local")
# Where its homes may be: /etc is merged at each upgrade, and is no place for people's files.
HOME_PLACES: Final = tuple(place for place in MACHINE_PLACES if place != "/etc")


def _plain_path(text: str) -> str:
    if not text.startswith("/") or posixpath.normpath(text) != text or text.startswith("//"):
        raise ValueError("it has to be an absolute path without '.', '..' and a slash at the end")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("a path with blanks cannot be told to systemd here")
    return text


def _account_path(text: str) -> str:
    if ":" in text:
        raise ValueError("a path with ':' cannot be said in /etc/passwd")
    return _plain_path(text)


def _home(text: str) -> str:
    home = _account_path(text.rstrip("/") or "/")
    if home != "/root" and not home.startswith(tuple(f"{place}/" for place in HOME_PLACES)):
        raise ValueError(f"a machine can have homes below {', '.join(HOME_PLACES)}")
    return home


def _one_line(text: str) -> str:
    if any(not character.isprintable() for character in text) or ":" in text or '"' in text:
        raise ValueError("it has to be one line without ':' and '\"'")
    return text


def _word(text: str) -> str:
    if not text or any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("it has to be one word")
    return text


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError("it has to be a UUID") from None


def _kernel_argument(text: str) -> str:
    arguments = split_command_line(text)
    if not arguments or not text.isprintable():
        raise ValueError("it has to be one line, and not empty")
    if text.count('"') % 2:
        raise ValueError("a quote in it is not closed")
    for argument in arguments:
        if argument.startswith("-"):
            raise ValueError("what begins with '-' would be taken for an option of the installer")
        if argument.partition("=")[0] == DEPLOYMENT_ARGUMENT:
            raise ValueError("'ostree' names the deployment that is booted; it cannot be set")
    return text


AbsolutePath = Annotated[str, Field(pattern="^/"), AfterValidator(_plain_path)]
# A field of /etc/passwd.
AccountPath = Annotated[str, Field(pattern="^/"), AfterValidator(_account_path)]
Home = Annotated[str, Field(pattern="^/"), AfterValidator(_home)]
Name = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,30}$")]
Owner = Annotated[str, Field(pattern=r"^([a-z_][a-z0-9_-]{0,30}|[0-9]{1,5})$")]
# A field of /etc/passwd.
Line = Annotated[str, AfterValidator(_one_line)]
Word = Annotated[str, AfterValidator(_word)]
Uuid = Annotated[str, AfterValidator(_uuid)]
KernelArgument = Annotated[str, AfterValidator(_kernel_argument)]
Mode = Annotated[str, Field(pattern="^0?[0-7]{3,4}$")]
Identifier = Annotated[int, Field(ge=1, le=65533)]
HostName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*$")
]
TimeZone = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")]
Locale = Annotated[str, Field(pattern=r"^[A-Za-z_]+(\.[A-Za-z0-9-]+)?(@[A-Za-z]+)?$")]
Unit = Annotated[str, Field(pattern=r"^[A-Za-z0-9:_.\\@-]+$")]
VolumeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,62}$")]
SubvolumeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9@_][A-Za-z0-9@_.-]{0,254}$")]
