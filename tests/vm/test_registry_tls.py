"""TLS and passwords, as the real skopeo meets them."""

import base64
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import CommandError
from bootc_build.vm.registry import Registry
from bootc_build.vm.registry_faults import FaultExpectationError
from tests.onhost.oci_images import File, WrittenImage, write_image
from tests.registry_home import skopeo, write_home

USER = ("somebody", "secret")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> WrittenImage:
    layout = tmp_path_factory.mktemp("image") / "layout"
    return write_image(layout, [[File("usr/a", data=b"a" * 5000)], [File("usr/b")]])


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path, tls=True, auth=USER) as running:
        yield running


def _logged_in(registry: Registry, home: Path) -> Path:
    auth = home / "auth.json"
    auth.write_text(registry.auth_json(registry.address))
    return auth


def _copy_in(registry: Registry, home: Path, image: WrittenImage, name: str) -> None:
    auth = _logged_in(registry, home)
    to = f"docker://{registry.address}/{name}"
    done = skopeo(home, "copy", "-q", f"--authfile={auth}", image.skopeo, to)
    assert done.returncode == 0, done.stderr


def test_who_trusts_the_authority_and_has_the_password_can_push_and_fetch(
    registry: Registry, tmp_path: Path, image: WrittenImage
) -> None:
    home = write_home(registry, tmp_path / "home")
    _copy_in(registry, home, image, "os:1")
    source = f"docker://{registry.address}/os:1"
    done = skopeo(home, "inspect", f"--authfile={home}/auth.json", source)
    assert json.loads(done.stdout)["Digest"] == image.manifest_digest
    assert {each.method for each in registry.requests("upload", method=None)} >= {"POST", "PUT"}


def test_who_does_not_trust_the_authority_refuses_the_registry(
    registry: Registry, tmp_path: Path
) -> None:
    home = write_home(registry, tmp_path / "home", trust=False)
    done = skopeo(home, "inspect", f"docker://{registry.address}/os:1")
    assert "certificate signed by unknown authority" in done.stderr
    refused = registry.requests(method=None)
    assert {each.method for each in refused} == {"TLS"}
    assert all("bad certificate" in each.path for each in refused)


def test_without_or_with_a_wrong_password_nothing_is_given(
    registry: Registry, tmp_path: Path, image: WrittenImage
) -> None:
    home = write_home(registry, tmp_path / "home")
    _copy_in(registry, home, image, "os:1")
    source = f"docker://{registry.address}/os:1"
    assert "authentication required" in skopeo(home, "inspect", "--no-creds", source).stderr
    wrong = skopeo(home, "inspect", "--creds=somebody:wrong", source)
    assert "unauthorized" in wrong.stderr


def test_a_changed_password_is_asked_for_at_once(
    registry: Registry, tmp_path: Path, image: WrittenImage
) -> None:
    home = write_home(registry, tmp_path / "home")
    _copy_in(registry, home, image, "os:1")
    auth = home / "auth.json"
    registry.change_password("another")
    source = f"docker://{registry.address}/os:1"
    assert "unauthorized" in skopeo(home, "inspect", f"--authfile={auth}", source).stderr
    _logged_in(registry, home)
    assert skopeo(home, "inspect", f"--authfile={auth}", source).returncode == 0


def test_an_expired_certificate_is_refused_until_it_is_renewed(
    registry: Registry, tmp_path: Path, image: WrittenImage
) -> None:
    home = write_home(registry, tmp_path / "home")
    _copy_in(registry, home, image, "os:1")
    command = ("inspect", f"--authfile={home}/auth.json", f"docker://{registry.address}/os:1")
    registry.faults.expire_certificate()
    with pytest.raises(FaultExpectationError, match="no client has met the expired certificate"):
        registry.faults.check()
    assert "certificate has expired" in skopeo(home, *command).stderr
    assert registry.requests(method="TLS")[-1].fault == "expired certificate"
    registry.faults.renew_certificate()
    assert skopeo(home, *command).returncode == 0
    registry.faults.check()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "10.0.2.2"])
def test_the_certificate_is_good_for_hosts_and_guests(registry: Registry, name: str) -> None:
    context = ssl.create_default_context(cafile=registry.authority)
    with (
        socket.create_connection(("127.0.0.1", registry.port)) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        assert secured.version() in {"TLSv1.2", "TLSv1.3"}


def test_a_guest_gets_all_that_it_needs(registry: Registry) -> None:
    files = registry.guest_files("registry.example")
    where = f"10.0.2.2:{registry.port}"
    [configuration] = [text for path, text in files.items() if "registries.conf.d" in path]
    assert f'location = "{where}"' in configuration
    assert "insecure" not in configuration
    assert files[f"/etc/containers/certs.d/{where}/ca.crt"] == registry.authority.read_text()
    auth = json.loads(files["/etc/ostree/auth.json"])["auths"][where]["auth"]
    assert base64.b64decode(auth) == b"somebody:secret"
    assert "/etc/ostree/auth.json" not in registry.guest_files(auth=False)


def test_a_registry_without_options_asks_for_nothing(tmp_path: Path) -> None:
    with Registry(tmp_path) as plain:
        assert list(plain.guest_files()) == [
            "/etc/containers/registries.conf.d/bootc-build-test.conf"
        ]
        with pytest.raises(UserError, match="no password"):
            plain.guest_auth()
        with pytest.raises(UserError, match="no TLS"):
            plain.authority.read_text()


def test_images_of_local_storage_are_pushed_past_tls_with_the_password(registry: Registry) -> None:
    with pytest.raises(CommandError, match="not known"):
        registry.push("localhost/bootc-build-test/is-not-there", "os")
    assert registry.requests(method=None) == ()


def test_a_handshake_that_never_ends_does_not_hold_the_end_up(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with Registry(tmp_path, tls=True) as registry:
        mute = socket.create_connection(("127.0.0.1", registry.port))
    mute.close()
    assert set(threading.enumerate()) <= before
