"""User and password of a test's registry, in the forms in which registry and clients keep them."""

import base64
import ctypes
import ctypes.util
import json
from collections.abc import Iterable
from dataclasses import dataclass

from bootc_build.onhost.errors import UserError

# The cost of bcrypt: the smallest that there is, for a password that guards nothing.
_COST = 4


@dataclass(frozen=True)
class Credentials:
    """Who may use a registry."""

    user: str
    password: str

    @property
    def authorization(self) -> str:
        """The value of HTTP's Authorization header."""
        return f"Basic {self._encoded}"

    def auth_json(self, addresses: Iterable[str]) -> str:
        """The text of an auth.json (containers-auth.json(5)) for these "HOST:PORT"."""
        return json.dumps({"auths": {each: {"auth": self._encoded} for each in addresses}}) + "\n"

    def htpasswd(self) -> str:
        """The line of an htpasswd file; docker-registry takes bcrypt alone."""
        return f"{self.user}:{_bcrypt(self.password)}\n"

    @property
    def _encoded(self) -> str:
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def _bcrypt(password: str) -> str:
    # Python 3.13 has no crypt module any more; libxcrypt is what it wrapped, and every Linux has it.
    name = ctypes.util.find_library("crypt")
    if name is None:
        raise UserError(
            "libcrypt is not installed, so the registry cannot have a password.",
            "Install it with: apt-get install libcrypt1",
        )
    library = ctypes.CDLL(name)
    for function in (library.crypt, library.crypt_gensalt):
        function.restype = ctypes.c_char_p
    library.crypt_gensalt.argtypes = [
        *(ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_int)
    ]
    library.crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    hashed: bytes | None = library.crypt(
        password.encode(), library.crypt_gensalt(b"$2y$", _COST, None, 0)
    )
    if hashed is None or not hashed.startswith(b"$2y$"):
        raise UserError("libcrypt does not know bcrypt, so the registry cannot have a password.")
    return hashed.decode()
