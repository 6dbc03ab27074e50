"""The pytest plugin: machines and registries as fixtures; `Image` is what tests import from here."""

from bootc_build.testing.image import Image

__all__ = ["Image"]
