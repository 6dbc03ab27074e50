"""The pytest plugin: machines and registries as fixtures."""
