"""The pytest plugin: machines and registries as fixtures; `Image` is what tests import from here.

`rehearsal` is what `bootc-build test` runs, `report` what the browser shows of a test run.
"""

from bootc_build.testing.image import Image

__all__ = ["Image"]
