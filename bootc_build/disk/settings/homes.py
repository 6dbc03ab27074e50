"""Home directories that a configuration puts something into, made before the machine's first boot.

systemd-tmpfiles copies the skeleton into a home that is not there yet, and only then gives it to its user. Where
something is put below it here, all of that has to be done here.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from bootc_build.disk.settings.accounts import Home
from bootc_build.disk.settings.deployment import Deployment
from bootc_build.disk.settings.places import home_of

_SKELETON = "etc/skel"
_HOME_MODE = 0o700


def make_way(deployment: Deployment, path: str, homes: Sequence[Home]) -> None:
    """Make the home that a path lies in, if it does, and the folders between the two, which are the user's.

    Nothing that is there is changed.
    """
    resolved = deployment.resolve(path)
    home = home_of(resolved, homes)
    if home is None:
        return
    top, place = deployment.place(home.path), deployment.place(resolved)
    if not top.is_dir():
        # A home may lie in another.
        make_way(deployment, home.path, [each for each in homes if each is not home])
        _make_home(deployment, top, home)
    missing = []
    for above in place.parents:
        if above == top or top not in above.parents or above.is_dir():
            break
        missing.append(above)
    for folder in reversed(missing):
        deployment.make_folders(folder)
        os.chown(folder, home.uid, home.gid)


def _make_home(deployment: Deployment, top: Path, home: Home) -> None:
    deployment.make_folders(top.parent)
    skeleton = deployment.root / _SKELETON
    if home.is_new and skeleton.is_dir():
        shutil.copytree(skeleton, top, symlinks=True)
    else:
        top.mkdir()
    top.chmod(_HOME_MODE)
    for each in (top, *top.rglob("*")):
        os.chown(each, home.uid, home.gid, follow_symlinks=False)
