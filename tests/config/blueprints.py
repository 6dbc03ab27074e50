"""Blueprints as texts, for the tests of what is read of them."""

from bootc_build.config.blueprint import parse_blueprint
from bootc_build.config.disk import DiskConfiguration
from bootc_build.config.document import parse_document


def parse(text: str) -> DiskConfiguration:
    """The configuration that a config.toml asks for."""
    return parse_blueprint(parse_document(text, ".toml", "config.toml"), "config.toml")[0]


def custom(text: str) -> str:
    """A config.toml with these customizations."""
    return f"[customizations]\n{text}"
