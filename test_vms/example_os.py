"""The operating system that the tests boot."""

from dataclasses import dataclass

# A name that no registry has: machines are told where it really is. So one disk serves every test.
FOLLOWS = "registry.example/os:stable"


@dataclass(frozen=True)
class Versions:
    """Names of its images in local storage."""

    one: str
    two: str
