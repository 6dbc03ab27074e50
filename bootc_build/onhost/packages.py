"""Where the distribution keeps Python packages, for a program that was started without ``site``.

``/usr/bin/bootc`` is started so (``python3 -S``): on a slow host ``site`` takes a good part of a tenth of a
second, and ``bootc status`` needs nothing but the standard library.
"""

import sys

_found = False


def find_packages() -> None:
    """Make what the distribution packaged (PyGObject, PyYAML) importable; done once."""
    global _found  # noqa: PLW0603 - a property of the process, as sys.path is
    if sys.flags.no_site and not _found:
        import site  # noqa: PLC0415 - the point of this module

        site.main()
        _found = True
