"""`bootc status` reads files where libostree would be slow: both have to say the same, in every state."""

import json
import subprocess

import pytest

from tests.host.pretend_boot import BOOTC, PretendHost, publish

_COMPARE = """
import dataclasses, json
from bootc_build.onhost.host.origin import Origin
from bootc_build.onhost.host.status import read_host
from bootc_build.onhost.ostree.sysroot import open_system
from bootc_build.onhost.ostree.sysroot_files import SysrootFiles

def plain(deployments):
    for each in deployments:
        record = dataclasses.asdict(each)
        record["overlay"] = each.overlay.value
        record["options"] = each.options.split()
        record["origin"] = Origin.parse(each.origin).groups
        yield record

files = SysrootFiles()
native = open_system(writing=False)
print(json.dumps({
    "files": list(plain(files.deployments())),
    "libostree": list(plain(native.deployments())),
    "files document": read_host(files.deployments(), files).to_dict(),
    "libostree document": read_host(native.deployments(), native.repo).to_dict(),
}))
"""


def check_both_agree(host: PretendHost) -> int:
    """The number of deployments that both see."""
    done = host.execute("/usr/bin/python3", "-c", _COMPARE)
    assert done.status == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["files"] == seen["libostree"]
    assert seen["files document"] == seen["libostree document"]
    return len(seen["files"])


def test_files_and_libostree_agree_through_a_host_s_life(host: PretendHost) -> None:
    assert check_both_agree(host) == 1
    publish(host, "2", "kargs = ['new=\"a b\"']\n")
    host.bootc("upgrade", "--check")
    assert check_both_agree(host) == 1
    host.bootc("upgrade")
    assert check_both_agree(host) == 2
    host.reboot()
    assert check_both_agree(host) == 2
    publish(host, "3")
    host.bootc("upgrade")
    assert check_both_agree(host) == 3
    host.bootc("rollback")
    assert host.status()["rollbackQueued"] is True
    assert check_both_agree(host) == 2


def test_files_and_libostree_agree_on_a_pinned_and_unlocked_deployment(host: PretendHost) -> None:
    assert host.execute("ostree", "admin", "pin", "0").status == 0
    flags = host.run_directory / "ostree/deployment-state" / host.root.name
    flags.mkdir(parents=True)
    (flags / "unlocked-development").touch()
    assert check_both_agree(host) == 1
    status = host.status()
    assert status["booted"]["pinned"] is True
    assert status["usrOverlay"] == {"accessMode": "readWrite", "persistence": "transient"}


def test_files_and_libostree_agree_on_a_deployment_without_origin(host: PretendHost) -> None:
    host.root.with_name(f"{host.root.name}.origin").unlink()
    assert check_both_agree(host) == 1
    assert host.status()["booted"]["image"] is None


def test_layout_that_files_do_not_explain_is_read_by_libostree(host: PretendHost) -> None:
    entry = next((host.sysroot / "boot/loader/entries").glob("*.conf"))
    before = host.status()
    # A boot entry of somebody else: libostree takes every one for a deployment, and says so.
    entry.write_text(entry.read_text().replace("ostree=", "nothing="))
    done = host.execute("/usr/bin/python3", "-m", "bootc_build.onhost", "status", "--format=json")
    assert done.status == 1
    assert "The system's deployments cannot be read" in done.stderr
    entry.write_text(entry.read_text().replace("nothing=", "ostree="))
    assert host.status() == before


def test_status_loads_no_libostree_on_a_booted_host(host: PretendHost) -> None:
    code = (
        "import sys; from bootc_build.onhost.cli.main import main; main(['status', '--json']); "
        "print([name for name in ('gi', 'yaml', 'pathlib', 'subprocess') if name in sys.modules])"
    )
    done = host.execute("/usr/bin/python3", "-c", code)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "damage", [b"\xff\xfe", b"[origin]\ncontainer-image-reference=\xff\n", b"x"]
)
def test_damaged_origin_hides_no_system_and_is_named(host: PretendHost, damage: bytes) -> None:
    name = f"{host.root.name}.origin"
    host.root.with_name(name).write_bytes(damage)
    status = host.status()
    assert status["booted"]["image"] is None
    assert host.root.name.startswith(status["booted"]["ostree"]["checksum"])
    done = host.execute(*BOOTC, "rollback")
    assert done.status == 1
    assert f"Mend the origin file /ostree/deploy/default/deploy/{name}: " in done.stderr


def test_a_lost_deployment_hides_no_other_and_what_helps_is_said(host: PretendHost) -> None:
    publish(host, "2")
    host.bootc("upgrade")
    before = host.root
    host.reboot()
    subprocess.run(["chattr", "-i", before], check=False)
    before.rename(host.scratch / "lost")
    done = host.execute(*BOOTC, "status", "--format=json")
    assert done.status == 0
    status = json.loads(done.stdout)["status"]
    assert (status["booted"]["image"]["version"], status["rollback"]) == ("2", None)
    assert "A boot entry leads to no deployment: root=UUID=r" in done.stderr
    assert "bootc internals fsck --repair" in done.stderr
    refused = host.execute(*BOOTC, "upgrade")
    assert refused.status == 1
    assert "bootc internals fsck --repair" in refused.stderr
    host.bootc("internals", "fsck", "--repair")
    assert "No update available." in host.bootc("upgrade")
    assert host.execute(*BOOTC, "status").stderr == ""
