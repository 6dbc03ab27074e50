"""The JSON Schema of disk.yaml, from the declarations that files are checked by."""

import json

from bootc_build.config.disk import DiskConfiguration


def disk_schema() -> str:
    """The schema as a text that ends in a newline."""
    schema = DiskConfiguration.model_json_schema(by_alias=True)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "disk.yaml of bootc-build",
    }
    return json.dumps({**schema, **head}, indent=2, sort_keys=True) + "\n"
