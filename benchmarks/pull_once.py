"""Import one image into a fresh repository: what ``benchmarks.importer`` and ``.memory`` time from outside."""

import sys
from pathlib import Path

from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.ostree.repo import create_repo
from bootc_build.onhost.progress import Silent
from bootc_build.onhost.pull import pull


def main() -> int:
    """``python -m benchmarks.pull_once LAYOUT REPO``: pull ``oci:LAYOUT:image``."""
    layout, repository = sys.argv[1:]
    reference = ImageReference.parse_cli(f"{layout}:image", "oci")
    pulled = pull(create_repo(Path(repository)), reference, progress=Silent())
    return 0 if pulled.merge_commit else 1


if __name__ == "__main__":
    sys.exit(main())
