"""Manifests and configurations: malformed ones name the field."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from bootc_build.onhost.oci.manifest import (
    MalformedDocumentError,
    parse_config,
    parse_manifest,
    timestamp,
)

DIGEST = "sha256:" + "ab" * 32


def manifest_document() -> dict[str, Any]:
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": DIGEST, "size": 3}
    return {"schemaVersion": 2, "config": {**layer, "mediaType": "c"}, "layers": [layer]}


def config_document() -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-02T03:04:05.123456789Z",
        "config": {"Labels": {"version": "old", "org.opencontainers.image.version": "7"}},
        "rootfs": {"diff_ids": [DIGEST]},
        "history": [
            {"created_by": "ENV x", "empty_layer": True},
            {"created_by": "RUN y"},
        ],
    }


def broken(document: dict[str, Any], *path: str | int, value: object) -> str:
    """The document with one field replaced; None removes it."""
    *parents, last = path
    inner: Any = document
    for key in parents:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(document)


def test_config_gives_version_history_and_time() -> None:
    config = parse_config(json.dumps(config_document()))
    assert config.version == "7"
    assert config.made_by(0) == "RUN y"
    assert config.made_by(1) == ""
    assert timestamp(parse_manifest(json.dumps(manifest_document())), config) == 1767323045


def test_the_manifests_own_time_comes_first() -> None:
    document = {
        **manifest_document(),
        "annotations": {"org.opencontainers.image.created": "1970-01-01T00:01:00+00:00"},
    }
    config = parse_config(json.dumps(config_document()))
    assert timestamp(parse_manifest(json.dumps(document)), config) == 60


def test_canonical_text_is_sorted_and_keeps_unknown_fields() -> None:
    manifest = parse_manifest('{"z": "é", ' + json.dumps(manifest_document())[1:])
    assert manifest.text.startswith('{"config":{"digest":')
    assert manifest.text.endswith(',"schemaVersion":2,"z":"é"}')


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("layers",), None, "layers"),
        (("layers",), [], "layers"),
        (("layers",), {"a": 1}, "layers"),
        (("layers", 0, "digest"), None, "layers[0].digest"),
        (("layers", 0, "digest"), "md5", "layers[0].digest"),
        (("layers", 0, "size"), "3", "layers[0].size"),
        (("layers", 0, "size"), -1, "layers[0].size"),
        (("layers", 0, "mediaType"), None, "layers[0].mediaType"),
        (("config",), None, "config"),
        (("schemaVersion",), 1, "schemaVersion"),
    ],
)
def test_a_malformed_manifest_names_the_field(
    path: tuple[str | int, ...], value: object, field: str
) -> None:
    with pytest.raises(MalformedDocumentError) as caught:
        parse_manifest(broken(manifest_document(), *path, value=value))
    assert caught.value.field == field
    assert field in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("architecture",), None, "architecture"),
        (("rootfs", "diff_ids", 0), 7, "rootfs.diff_ids[0]"),
        (("config", "Labels", "version"), 7, "config.Labels.version"),
        (("history", 1), "RUN", "history[1]"),
    ],
)
def test_a_malformed_configuration_names_the_field(
    path: tuple[str | int, ...], value: object, field: str
) -> None:
    with pytest.raises(MalformedDocumentError) as caught:
        parse_config(broken(config_document(), *path, value=value))
    assert caught.value.field == field


@pytest.mark.parametrize("parse", [parse_manifest, parse_config])
@pytest.mark.parametrize("text", ["", "[]", "7", "{", '"x"', "null"])
def test_what_is_no_object_is_refused(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(MalformedDocumentError):
        parse(text)


def test_a_list_of_images_is_no_image() -> None:
    with pytest.raises(MalformedDocumentError, match="list of images"):
        parse_manifest('{"schemaVersion":2,"manifests":[]}')
