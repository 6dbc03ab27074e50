"""The status document has upstream's fields, all of them and no others; people see upstream's layout."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bootc_build.onhost.host import render
from bootc_build.onhost.host.document import (
    BootEntry,
    Host,
    HostSpec,
    HostStatus,
    ImageReferenceStatus,
    ImageStatus,
    OstreeStatus,
    UsrOverlay,
)
from bootc_build.onhost.host.medium import is_read_only
from bootc_build.onhost.host.status import reference_status
from bootc_build.onhost.oci.reference import CONTAINER_POLICY, ImageReference, ostree_remote

REFERENCE = ImageReferenceStatus("quay.io/a/os:1", "registry")
IMAGE = ImageStatus(
    REFERENCE, "1.0", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "sha256:" + "a" * 64, "amd64"
)
BOOTED = BootEntry(IMAGE, None, False, False, False, OstreeStatus("default", "c" * 64, 0))
HOST = Host(HostSpec(REFERENCE), HostStatus(booted=BOOTED))

# Field to the kinds of value that it may have; what is in brackets may be left out.
FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "host": {"apiVersion": (str,), "kind": (str,), "metadata": (dict,), "spec": (dict,), "status": (dict,)},
    "spec": {"image": (dict, type(None)), "bootOrder": (str,)},
    "status": {
        "staged": (dict, type(None)), "booted": (dict, type(None)), "rollback": (dict, type(None)),
        "[otherDeployments]": (list,), "rollbackQueued": (bool,), "type": (str, type(None)),
        "usrOverlay": (dict, type(None)), "readOnly": (bool,),
    },
    "entry": {
        "image": (dict, type(None)), "cachedUpdate": (dict, type(None)), "incompatible": (bool,),
        "pinned": (bool,), "softRebootCapable": (bool,), "downloadOnly": (bool,), "store": (str,),
        "ostree": (dict,), "composefs": (type(None),),
    },
    "image": {
        "image": (dict,), "version": (str, type(None)), "timestamp": (str, type(None)),
        "imageDigest": (str,), "architecture": (str,),
    },
    "reference": {"image": (str,), "transport": (str,), "[signature]": (str, dict)},
    "ostree": {"stateroot": (str,), "checksum": (str,), "deploySerial": (int,)},
}  # fmt: skip


def check(kind: str, document: dict[str, Any]) -> None:
    fields = {name.strip("[]"): types for name, types in FIELDS[kind].items()}
    required = {name for name in FIELDS[kind] if not name.startswith("[")}
    assert required <= set(document) <= set(fields), kind
    for name, value in document.items():
        assert type(value) in fields[name], f"{kind}.{name}"


def check_host(document: dict[str, Any]) -> None:
    check("host", document)
    check("spec", document["spec"])
    check("status", document["status"])
    status = document["status"]
    entries = [status["staged"], status["booted"], status["rollback"]]
    for entry in [*filter(None, entries), *status.get("otherDeployments", [])]:
        check("entry", entry)
        check("ostree", entry["ostree"])
        for image in filter(None, (entry["image"], entry["cachedUpdate"])):
            check("image", image)
            check("reference", image["image"])


def test_document_has_all_fields_of_a_full_host() -> None:
    update = replace(IMAGE, version="2.0")
    status = HostStatus(
        staged=replace(BOOTED, download_only=True),
        booted=replace(BOOTED, cached_update=update),
        rollback=replace(BOOTED, image=None, incompatible=True),
        other_deployments=(replace(BOOTED, pinned=True),),
        rollback_queued=True,
        usr_overlay=UsrOverlay("readWrite", "transient"),
    )
    document: dict[str, Any] = Host(HostSpec(REFERENCE, "rollback"), status).to_dict()
    check_host(document)
    assert document["apiVersion"] == "org.containers.bootc/v1"
    assert document["kind"] == "BootcHost"
    assert document["metadata"] == {"name": "host"}
    assert document["spec"]["bootOrder"] == "rollback"
    assert document["status"]["type"] == "bootcHost"
    assert document["status"]["usrOverlay"] == {
        "accessMode": "readWrite",
        "persistence": "transient",
    }
    assert document["status"]["booted"]["cachedUpdate"]["version"] == "2.0"
    assert document["status"]["booted"]["image"]["timestamp"] == "2026-01-02T03:04:05Z"
    assert document["status"]["booted"]["store"] == "ostreeContainer"


def test_document_of_a_machine_that_is_no_such_host() -> None:
    document: dict[str, Any] = Host().to_dict()
    check_host(document)
    assert document["status"]["type"] is None
    assert render.human(Host()) == "System is not deployed via bootc.\n"


def test_signature_is_spelled_as_upstream_does() -> None:
    def signature(reference: ImageReference) -> object:
        return reference_status(reference).to_dict().get("signature", "absent")

    insecure = ImageReference("registry", "quay.io/a/os:1")
    assert signature(insecure) == "absent"
    assert signature(replace(insecure, policy=CONTAINER_POLICY)) == "containerPolicy"
    assert signature(replace(insecure, policy=ostree_remote("r"))) == {"ostreeRemote": "r"}


def test_people_see_slots_with_their_rows_aligned() -> None:
    status = HostStatus(
        staged=replace(BOOTED, image=replace(IMAGE, version=None, timestamp=None)),
        booted=replace(BOOTED, cached_update=replace(IMAGE, version="2", image_digest="sha256:b")),
        rollback=replace(BOOTED, image=None),
    )
    assert render.human(Host(HostSpec(REFERENCE), status)) == (
        "  Staged image: quay.io/a/os:1\n"
        f"        Digest: sha256:{'a' * 64} (amd64)\n"
        "\n"
        "● Booted image: quay.io/a/os:1\n"
        f"        Digest: sha256:{'a' * 64} (amd64)\n"
        "       Version: 1.0 (2026-01-02T03:04:05Z)\n"
        " UpdateVersion: 2 (2026-01-02T03:04:05Z)\n"
        "  UpdateDigest: sha256:b\n"
        "\n"
        "  Rollback ostree\n"
        f"           Commit: {'c' * 64}\n"
    )


def test_verbose_names_what_libostree_calls_it() -> None:
    text = render.human(HOST, verbose=True)
    rows = dict(re.findall(r"^ *([^:\n]+): (.*)$", text, re.MULTILINE))
    assert rows["StateRoot"] == "default"
    assert rows["Deploy serial"] == "0"
    assert rows["Commit"] == "c" * 64
    assert rows["Staged"] == "no"
    assert "StateRoot" not in render.human(HOST)


def test_booted_only_hides_the_rest() -> None:
    status = replace(HOST.status, staged=BOOTED, rollback=BOOTED, other_deployments=(BOOTED,))
    shown = Host(HOST.spec, status).booted_only().status
    assert (shown.staged, shown.rollback, shown.other_deployments) == (None, None, ())
    assert shown.booted == BOOTED


def test_medium_is_read_only_by_its_file_system_not_by_its_mount() -> None:
    line = "30 1 8:1 / /sysroot ro,relatime shared:1 - ext4 /dev/sda1 {}\n"
    assert not is_read_only("/sysroot", line.format("rw,discard"))
    assert is_read_only("/sysroot", line.format("ro"))
    assert not is_read_only("/elsewhere", line.format("ro"))
