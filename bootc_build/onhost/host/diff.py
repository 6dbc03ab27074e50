"""How two deployments differ: image, packages, files, kernel arguments; neither need be booted."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.host import kargs
from bootc_build.onhost.host.package_list import PackageChanges, compare_packages, read_packages
from bootc_build.onhost.host.pin import chosen
from bootc_build.onhost.host.status import Slots
from bootc_build.onhost.ostree.deployment import Deployment
from bootc_build.onhost.ostree.metadata import load_image_metadata
from bootc_build.onhost.ostree.sysroot_files import SysrootFiles
from bootc_build.onhost.ostree.tree_files import FileChanges, compare_trees

_SYSROOT = Path("/sysroot")


@dataclass(frozen=True)
class Side:
    """One of the two: what it is called here, its commit, and what its image says of itself."""

    name: str
    checksum: str
    version: str | None
    digest: str | None


@dataclass(frozen=True)
class Differences:
    """What differs. ``packages`` is None where one of the two has no database that can be read."""

    old: Side
    new: Side
    packages: PackageChanges | None
    files: FileChanges
    arguments_added: kargs.Arguments
    arguments_removed: kargs.Arguments


def sides(slots: Slots, names: list[str]) -> tuple[str, str]:
    """Which deployments are compared, the older first.

    Without names: the booted with the staged one or, when nothing is staged, the rollback with the booted one.
    With one: the booted with that one.

    Raises:
        UserError: there is nothing to compare with.
    """
    if len(names) == 2:  # noqa: PLR2004 - the two sides
        return names[0], names[1]
    if names:
        return "booted", names[0]
    if slots.staged is not None:
        return "booted", "staged"
    if slots.rollback is not None:
        return "rollback", "booted"
    raise UserError("There is only one deployment.", "Queue another with: bootc upgrade")


def diff(slots: Slots, old: str, new: str, files: SysrootFiles) -> Differences:
    """Compare two deployments.

    Args:
        slots: the deployments.
        old: one of them: ``booted``, ``staged``, ``rollback`` or an index in the boot order.
        new: the other.
        files: where their commits are.

    Raises:
        UserError: there is no such deployment; something cannot be read.
    """
    one, other = chosen(slots, old), chosen(slots, new)
    before, after = (kargs.of_deployment(each.options) for each in (one, other))
    lists = [read_packages(_SYSROOT / each.path) for each in (one, other)]
    known = [each for each in lists if each is not None]
    return Differences(
        old=_side(files, old, one),
        new=_side(files, new, other),
        packages=compare_packages(*known) if len(known) == len(lists) else None,
        files=compare_trees(files, one.checksum, other.checksum),
        arguments_added=_more(after, before),
        arguments_removed=_more(before, after),
    )


def _more(one: kargs.Arguments, other: kargs.Arguments) -> kargs.Arguments:
    """What one has more often than the other."""
    return tuple((Counter(one) - Counter(other)).elements())


def _side(files: SysrootFiles, name: str, deployment: Deployment) -> Side:
    try:
        image = load_image_metadata(files, deployment.checksum)
    except UserError:
        image = None
    if image is None:
        return Side(name, deployment.checksum, None, None)
    return Side(name, deployment.checksum, image.version, image.manifest_digest)
