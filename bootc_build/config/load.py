"""What ``--config`` takes: disk.yaml, or bootc-image-builder's config.toml or config.json."""

from pathlib import Path

from bootc_build.config.blueprint import parse_blueprint
from bootc_build.config.disk import DiskConfiguration, disk_configuration
from bootc_build.config.document import read_document

# At least one of these is in a blueprint, and none is a key of disk.yaml.
_BLUEPRINT_KEYS = frozenset({"customizations", "blueprint", "packages", "modules", "distro"})


def load_configuration(path: Path) -> DiskConfiguration:
    """Read a configuration file of either kind; which one it is, its keys say.

    Raises:
        UsageError: it cannot be read, is wrong, or asks for what cannot be done; all problems at once.
    """
    document = read_document(path)
    if _BLUEPRINT_KEYS & document.keys():
        return parse_blueprint(document, str(path))
    return disk_configuration(document, str(path))
