"""What ``--config`` takes: disk.yaml, or bootc-image-builder's config.toml or config.json."""

from pathlib import Path

from bootc_build.config.blueprint import blueprint_origin, parse_blueprint
from bootc_build.config.disk import DiskConfiguration, disk_configuration
from bootc_build.config.document import read_document
from bootc_build.config.origin import Origin

# At least one of these is in a blueprint, and none is a key of disk.yaml.
_BLUEPRINT_KEYS = frozenset({"customizations", "blueprint", "packages", "modules", "distro"})


def load_configuration(path: Path) -> DiskConfiguration:
    """Read a configuration file of either kind; which one it is, its keys say.

    Raises:
        UsageError: it cannot be read, is wrong, or asks for what cannot be done; all problems at once.
    """
    return load_with_origin(path)[0]


def load_with_origin(path: Path) -> tuple[DiskConfiguration, Origin]:
    """The same, and where it was said.

    Raises:
        UsageError: as `load_configuration` does.
    """
    document, where = read_document(path), str(path)
    if _BLUEPRINT_KEYS & document.keys():
        return parse_blueprint(document, where), blueprint_origin(document, where)
    return disk_configuration(document, where), Origin(where)
