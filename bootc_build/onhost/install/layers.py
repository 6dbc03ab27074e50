"""Layers that whoever makes a disk has imported already, handed over in the target itself.

Layout: ``.bootc-layers/objects/XX/…`` in the target's root has the objects as a ``bare`` repository has them, and
``.bootc-layers/layers.json`` says which commit a layer is: ``{"sha256:…": "commit"}``. Whoever hands it over answers
for its being what this agent would have written: see :mod:`bootc_build.disk.layer_cache.layers`. The objects are moved and not
copied, since they are links to files that nobody may change.
"""

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bootc_build.onhost.oci.refnames import layer_ref

if TYPE_CHECKING:
    from bootc_build.onhost.ostree.repo import Repo

FOLDER: Final = ".bootc-layers"
OBJECTS: Final = "objects"
INDEX: Final = "layers.json"


def take_over(root: Path, repo: "Repo") -> None:
    """Move the layers that are in a target into its new repository, where a pull finds them.

    Raises:
        OSError: something of it is missing.
        UserError: the repository cannot be written.
    """
    given = root / FOLDER
    target = repo.path / "objects"
    for folder in sorted((given / OBJECTS).iterdir()):
        place = target / folder.name
        if not place.exists():
            folder.chmod(0o755)
            folder.rename(place)
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                os.rename(entry.path, f"{place}/{entry.name}")  # noqa: PTH104 - thousands of them
    layers: dict[str, str] = json.loads((given / INDEX).read_text())
    for digest, commit in layers.items():
        repo.set_ref(layer_ref(digest), commit)
    shutil.rmtree(given)
