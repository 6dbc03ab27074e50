"""Images that come neither from a registry nor from a layout are followed, too."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.host.invented_os import write_image
from tests.host.pretend_boot import PretendHost


def put(host: PretendHost, version: str, transport: str, name: str) -> None:
    """Write a version of the image where the host finds it, in place of the last one."""
    folder = host.scratch / "tmp"
    source = folder / "source"
    write_image(source, host.scratch, version=version)
    place = Path(f"{folder}{name.partition(':')[0]}")
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    copy = ["skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{source}:image"]
    subprocess.run([*copy, f"{transport}:{folder}{name}"], check=True)


@pytest.mark.parametrize(
    ("transport", "name"),
    [
        ("dir", "/folder"),
        ("oci-archive", "/os.tar:stable"),
        ("oci-archive", "/os.tar"),
        ("docker-archive", "/os.tar:localhost/os:stable"),
        ("docker-archive", "/os.tar"),
    ],
)
def test_switch_and_upgrade(host: PretendHost, transport: str, name: str) -> None:
    put(host, "2", transport, name)
    target = f"/tmp{name}"
    host.bootc("switch", f"--transport={transport}", target)
    again = host.bootc("switch", f"--transport={transport}", target)
    assert again == "Image specification is unchanged.\n"
    host.reboot()
    assert "No update available." in host.bootc("upgrade")
    put(host, "3", transport, name)
    assert f"Queued for next boot: {transport}:{target}\n  Version: 3" in host.bootc("upgrade")
    host.reboot()
    booted = host.status()["booted"]["image"]
    assert booted["version"] == "3"
    assert booted["image"] == {"image": target, "transport": transport}
    assert not list((host.sysroot / "ostree/deploy/default/var").glob("tmp/bootc-*"))
