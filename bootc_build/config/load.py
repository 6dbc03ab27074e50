"""What ``--config`` takes: disk.yaml, or bootc-image-builder's config.toml or config.json."""

from pathlib import Path
from typing import Final

from bootc_build.config.blueprint import parse_blueprint
from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.disk_yaml import disk_configuration
from bootc_build.config.document import read_document
from bootc_build.config.source import ConfigurationSource
from bootc_build.onhost.errors import UsageError

# At least one of these is in a blueprint, and none is a key of disk.yaml.
_BLUEPRINT_KEYS: Final = frozenset({"customizations", "blueprint", "packages", "modules", "distro"})
# More of them, for files that have a format of blueprints; elsewhere they are slips of the pen.
_BLUEPRINT_FORMATS: Final = (".toml", ".json")
_MORE_BLUEPRINT_KEYS: Final = frozenset(
    {"name", "version", "description", "containers", "enabled_modules", "minimal", "ostree"}
)
# Keys of both, of which the first means something else in each.
_IN_BOTH: Final = frozenset({"groups", "architecture"})


def load_configuration(path: Path) -> tuple[DiskConfiguration, ConfigurationSource]:
    """Read a configuration file of either kind (which one it is, its keys say), and note where each key was said.

    Raises:
        UsageError: it cannot be read, is wrong, asks for what cannot be done, or could be of both kinds; all
            problems at once.
    """
    document, where = read_document(path), str(path)
    may_be_blueprint = path.suffix.lower() in _BLUEPRINT_FORMATS
    marks = _BLUEPRINT_KEYS | (_MORE_BLUEPRINT_KEYS if may_be_blueprint else frozenset())
    if marks & document.keys():
        return parse_blueprint(document, where)
    if may_be_blueprint and "groups" in document and document.keys() <= _IN_BOTH:
        raise UsageError(
            f"{path}: 'groups' may be those of packages in a blueprint, or groups of users in disk.yaml.",
            "Say groups of users in a blueprint as [[customizations.group]], or in a file that is called .yaml. "
            "Packages belong to the image: install them in the Containerfile.",
        )
    return disk_configuration(document, where), ConfigurationSource(where)
