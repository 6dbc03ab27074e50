"""Verbs that make deployments or mark them, through the real libostree; only the boot is pretended."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.host.invented_os import write_image
from tests.host.pretend_boot import BOOTC, PretendHost, publish


def booted_arguments(host: PretendHost) -> list[str]:
    return re.sub(r" ?ostree=\S+", "", host.entries()[0]["options"]).split()


def test_kernel_arguments_change_with_the_next_boot_and_outlive_an_upgrade(
    host: PretendHost,
) -> None:
    assert host.bootc("kargs") == "root=UUID=r rw old=1 both=1 mine=1\n"
    replaced = "--replace=root=UUID=r=LABEL=x"
    assert host.bootc("kargs", "--append=new=1", "--delete=mine", replaced) == (
        "root=LABEL=x rw old=1 both=1 new=1\n"
    )
    shown = json.loads(host.bootc("kargs", "--json"))
    assert shown["staged"] == ["root=LABEL=x", "rw", "old=1", "both=1", "new=1"]
    assert shown["booted"] == ["root=UUID=r", "rw", "old=1", "both=1", "mine=1"]
    assert shown["rollback"] is None
    status = host.status()
    assert status["staged"]["image"] == status["booted"]["image"]

    # A second change is made to what is queued, and an upgrade before the reboot loses neither.
    host.bootc("kargs", "--append-if-missing=new=2", "--delete-if-present=absent")
    publish(host, "2", 'kargs = ["image=2", "both=1"]\n')
    host.bootc("upgrade")
    host.reboot()
    assert host.status()["booted"]["image"]["version"] == "2"
    assert booted_arguments(host) == ["root=LABEL=x", "rw", "both=1", "new=1", "new=2", "image=2"]


def test_changes_that_change_nothing_queue_nothing(host: PretendHost) -> None:
    assert host.bootc("kargs", "--append-if-missing=mine=1") == "No changes.\n"
    assert host.status()["staged"] is None


def test_impossible_change_of_arguments_queues_nothing(host: PretendHost) -> None:
    done = host.execute(*BOOTC, "kargs", "--delete=absent")
    assert done.status == 1
    assert done.stderr.startswith("error: There is no kernel argument 'absent'.")
    assert host.status()["staged"] is None


def test_pinned_deployment_outlives_upgrades_until_unpinned(host: PretendHost) -> None:
    assert host.bootc("pin").startswith("Pinned deployment 0 (")
    assert "already pinned" in host.bootc("pin", "0")
    for version in ("2", "3", "4"):
        publish(host, version)
        host.bootc("upgrade")
        host.reboot()
    status = host.status()
    assert status["rollback"]["image"]["version"] == "3"
    (other,) = status["otherDeployments"]
    assert other["pinned"] is True
    assert other["image"]["version"] == "1"
    assert "Pinned: yes" in host.bootc("status", "--format=humanreadable")
    assert host.execute("ostree", "fsck", "--repo=/sysroot/ostree/repo").status == 0

    publish(host, "5")
    host.bootc("upgrade")
    assert "is not pinned" in host.bootc("unpin", "rollback")
    assert host.bootc("unpin", "3").startswith("Unpinned deployment 3 (")
    status = host.status()
    assert "otherDeployments" not in status
    assert status["staged"]["image"]["version"] == "5"
    gone = host.execute(
        "ostree", "show", "--repo=/sysroot/ostree/repo", other["ostree"]["checksum"]
    )
    assert gone.status == 1
    host.reboot()
    status = host.status()
    assert status["booted"]["image"]["version"] == "5"
    assert status["rollback"]["image"]["version"] == "4"
    assert "otherDeployments" not in status


def test_staged_and_absent_deployments_cannot_be_pinned(host: PretendHost) -> None:
    publish(host, "2")
    host.bootc("upgrade")
    staged = host.execute(*BOOTC, "pin", "staged")
    assert (staged.status, "cannot be pinned" in staged.stderr) == (1, True)
    absent = host.execute(*BOOTC, "pin", "7")
    assert absent.status == 1
    assert absent.stderr == (
        "error: There is no deployment '7'.\nThere are: booted, staged, 0, 1.\n"
    )


def edited(host: PretendHost, **spec: object) -> str:
    """A file inside the host with an edited document; its path there."""
    document = yaml.safe_load(host.bootc("status", "--format=yaml"))
    document["spec"].update(spec)
    document["status"] = {"nobody": "reads this"}
    (host.scratch / "tmp/spec.yaml").write_text(yaml.safe_dump(document))
    return "/tmp/spec.yaml"


def test_in_place_switch_works_where_the_sysroot_is_mounted_read_only(host: PretendHost) -> None:
    switch = " ".join((*BOOTC, "switch", "--mutate-in-place", "quay.io/a/b:2"))
    read_only = "mount -o remount,bind,ro /sysroot && ! touch /sysroot/x 2>&-"
    done = host.execute("sh", "-c", f"{read_only} && {switch} && ! touch /sysroot/x 2>&-")
    assert done.status == 0, done.stderr
    assert done.stdout.endswith(" to pull from ostree-unverified-registry:quay.io/a/b:2\n")
    origin = host.root.with_name(f"{host.root.name}.origin").read_text()
    assert "container-image-reference=ostree-unverified-registry:quay.io/a/b:2\n" in origin


def test_in_place_switch_is_for_root(host: PretendHost) -> None:
    ordinary = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    done = host.execute(*ordinary, *BOOTC, "switch", "--mutate-in-place", "quay.io/a/b:2")
    assert done.status == 1
    assert done.stderr.startswith("error: this command requires root privileges")


def test_edited_image_is_queued(host: PretendHost) -> None:
    write_image(host.scratch / "tmp/other", host.scratch, version="9")
    image = {"image": "/tmp/other:image", "transport": "oci"}
    output = host.bootc("edit", "-f", edited(host, image=image))
    assert "Queued for next boot: oci:/tmp/other:image" in output
    host.reboot()
    assert host.status()["booted"]["image"]["image"] == image


def test_edited_boot_order_is_a_rollback(host: PretendHost) -> None:
    publish(host, "2")
    host.bootc("upgrade")
    host.reboot()
    rollback = edited(host, bootOrder="rollback")
    assert host.bootc("edit", "--filename", rollback) == "Next boot: rollback deployment\n"
    host.reboot()
    assert host.status()["booted"]["image"]["version"] == "1"


def test_unchanged_specification_does_nothing(host: PretendHost) -> None:
    assert host.bootc("edit", "-f", edited(host)) == "Edit cancelled, no changes made.\n"


@pytest.mark.parametrize(
    ("spec", "fact"),
    [
        (
            {"bootOrder": "rollback", "image": {"image": "a", "transport": "registry"}},
            "Invalid state transition: rollback and image change",
        ),
        ({"image": None}, "Missing image in specification"),
        ({"bootOrder": "sideways"}, "spec.bootOrder is 'sideways'"),
        ({"image": {"image": "a"}}, "spec.image.transport is missing"),
        ({"image": {"image": "a", "transport": "pigeon"}}, "'pigeon' is not a transport"),
        ({"colour": "red"}, "spec has the unknown field 'colour'"),
    ],
)
def test_wrong_specification_is_refused_in_words(
    host: PretendHost, spec: dict[str, object], fact: str
) -> None:
    done = host.execute(*BOOTC, "edit", "-f", edited(host, **spec))
    assert done.status != 0
    assert done.stderr.startswith(f"error: {fact}")
    assert host.status()["staged"] is None


def editor(host: PretendHost, script: str) -> tuple[str, ...]:
    """``bootc edit`` with a program as the editor."""
    program: Path = host.scratch / "tmp/editor"
    program.write_text(f"#!/bin/sh\nset -e\n{script}\n")
    program.chmod(0o755)
    return ("env", "EDITOR=/tmp/editor --some-option", *BOOTC, "edit")


def test_editor_gets_the_document_and_its_changes_are_applied(host: PretendHost) -> None:
    write_image(host.scratch / "tmp/other", host.scratch, version="9")
    # It writes another file in place of the one it got, as editors do.
    change = 'sed "s|/tmp/image:image|/tmp/other:image|" "$2" > "$2.new"; mv "$2.new" "$2"'
    done = host.execute(*editor(host, change))
    assert done.status == 0, done.stderr
    assert host.status()["staged"]["image"]["version"] == "9"


def test_editor_that_fails_changes_nothing(host: PretendHost) -> None:
    done = host.execute(*editor(host, "exit 3"))
    assert (done.status, done.stderr) == (
        1,
        "error: The editor /tmp/editor failed with status 3.\n",
    )


def test_change_by_somebody_else_during_the_edit_is_noticed(host: PretendHost) -> None:
    write_image(host.scratch / "tmp/other", host.scratch, version="9")
    write_image(host.scratch / "tmp/third", host.scratch, version="8")
    change = 'sed -i "s|/tmp/image:image|/tmp/other:image|" "$2"\n'
    meanwhile = f"{' '.join(BOOTC)} switch --transport=oci /tmp/third:image"
    done = host.execute(*editor(host, change + meanwhile))
    assert done.status == 1
    assert "Somebody else changed the specification meanwhile." in done.stderr
    assert host.status()["staged"]["image"]["version"] == "8"


def test_changing_specifications_needs_root_and_a_document(host: PretendHost) -> None:
    done = host.execute(*BOOTC, "edit", "-f", "/tmp/absent")
    assert done.stderr == "error: /tmp/absent cannot be read: No such file or directory.\n"
    (host.scratch / "tmp/no.yaml").write_text("a: [")
    done = host.execute(*BOOTC, "edit", "-f", "/tmp/no.yaml")
    assert done.stderr.startswith("error: The specification is not valid YAML:")


def test_system_that_was_taken_over_is_removed_from_a_read_only_sysroot(host: PretendHost) -> None:
    (host.sysroot / "usr/bin").mkdir(parents=True)
    (host.sysroot / "etc").mkdir()
    (host.sysroot / "etc/bootc-destructive-cleanup").touch()
    command = " ".join((*BOOTC, "internals", "remove-old-system"))
    done = host.execute("sh", "-c", f"mount -o remount,bind,ro /sysroot && {command}")
    assert (done.status, done.stderr) == (0, "")
    assert not (host.sysroot / "usr").exists()
    assert (host.sysroot / "ostree/repo").exists()
