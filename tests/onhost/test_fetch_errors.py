"""What a registry answers becomes an error with a remedy."""

import json
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.fetch_errors import (
    AccessDeniedError,
    FetchError,
    HostConfigurationError,
    ImageNotFoundError,
    TransientFetchError,
    explain,
)
from bootc_build.onhost.oci.imageproxy import open_image
from bootc_build.onhost.oci.policy import check_enforced
from bootc_build.onhost.oci.reference import CONTAINER_POLICY, ImageReference, ostree_remote

IMAGE = ImageReference("registry", "registry.test/os:1")


def test_a_missing_tag_is_named() -> None:
    error = explain(IMAGE, "reading manifest 1 in registry.test/os: manifest unknown", None)
    assert isinstance(error, ImageNotFoundError)
    assert "registry.test/os:1" in error.fact


@pytest.mark.parametrize(
    ("reference", "fact", "remedy"),
    [
        ("oci-archive:{}/bad.tar", "cannot be read: ", "the file was written completely"),
        ("docker-archive:{}/bad.tar", "cannot be read: ", "the file was written completely"),
        ("oci-archive:{}/absent.tar", "There is no image 'oci-archive:", "Check the path"),
        ("dir:{}/absent", "There is no image 'dir:", "Check the path"),
        ("containers-storage:localhost/none:1", "There is no image 'cont", "podman images"),
    ],
)
def test_local_image_that_cannot_be_read_has_a_remedy_of_its_own(
    reference: str, fact: str, remedy: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.tar").write_bytes(b"no archive " * 1000)
    image = ImageReference.parse_transport_qualified(reference.format(tmp_path))
    with pytest.raises(FetchError) as caught, open_image(image) as opened:
        opened.manifest()
    assert fact in caught.value.fact
    assert remedy in caught.value.remedy


def test_docker_daemon_that_does_not_run_is_named() -> None:
    said = "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"
    error = explain(ImageReference("docker-daemon", "os:1"), said, None)
    assert "the docker daemon does not answer" in error.fact
    assert "systemctl start docker" in error.remedy


def test_refused_credentials_name_registry_and_file() -> None:
    error = explain(IMAGE, "unauthorized: authentication required", Path("/etc/ostree/auth.json"))
    assert isinstance(error, AccessDeniedError)
    assert "registry.test" in error.fact
    assert "/etc/ostree/auth.json" in error.fact
    assert "skopeo login" in error.remedy


def test_a_registry_that_is_down_is_named() -> None:
    with (
        pytest.raises(FetchError, match=r"127\.0\.0\.1:1 does not answer"),
        open_image(ImageReference("registry", "127.0.0.1:1/os:1")),
    ):
        pass


def test_a_missing_layout_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ImageNotFoundError, match="nowhere"),
        open_image(ImageReference("oci", f"{tmp_path}/nowhere:x")),
    ):
        pass


def test_a_signature_that_cannot_be_checked_is_no_signature() -> None:
    with (
        pytest.raises(UserError, match="ostree remote 'fedora'"),
        open_image(ImageReference("registry", "registry.test/os", ostree_remote("fedora"))),
    ):
        pass


@pytest.mark.parametrize(
    "policy",
    [
        {"default": [{"type": "reject"}]},
        {
            "default": [{"type": "insecureAcceptAnything"}],
            "transports": {"docker": {"registry.test": [{"type": "signedBy"}]}},
        },
    ],
)
def test_a_proxy_that_ignores_the_policy_is_not_used(
    policy: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(tmp_path, policy, monkeypatch)
    with pytest.raises(UserError, match="does not obey"):
        check_enforced(IMAGE, "0.2.3")
    check_enforced(IMAGE, "0.2.6")


def test_a_policy_that_takes_anything_needs_no_enforcing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = [{"type": "insecureAcceptAnything"}]
    write_policy(
        tmp_path, {"default": accept, "transports": {"docker-daemon": {"": accept}}}, monkeypatch
    )
    check_enforced(IMAGE, "0.2.3")


def write_policy(tmp_path: Path, policy: object, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "containers" / "policy.json"
    path.parent.mkdir()
    path.write_text(json.dumps(policy))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_enforcing_needs_a_policy_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(tmp_path, {"default": [{"type": "insecureAcceptAnything"}]}, monkeypatch)
    with (
        pytest.raises(UserError, match="accepts anything by default"),
        open_image(ImageReference("registry", "registry.test/os", CONTAINER_POLICY)),
    ):
        pass


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (
            'getting username and password: 1 error occurred:\n\t* reading JSON file "/x": invalid\n\n',
            "skopeo login --authfile /etc/ostree/auth.json registry.test",
        ),
        (
            "getting username and password: 1 error occurred: * error getting credentials - err: no x",
            "skopeo login --authfile /etc/ostree/auth.json registry.test",
        ),
        (
            'loading registries configuration: loading registries configuration "/x": toml: line 2',
            "containers-registries.conf(5)",
        ),
        (
            "registry registry.test is blocked in /etc/containers/registries.conf",
            "containers-registries.conf(5)",
        ),
        (
            "parsing /etc/containers/registries.d/x.yaml: error converting YAML to JSON",
            "below /etc/containers",
        ),
        (
            "missing key client.key for client certificate client.cert. Note that CA certificates",
            "containers-certs.d(5)",
        ),
    ],
)
def test_what_is_wrong_on_this_host_is_not_tried_again(said: str, remedy: str) -> None:
    error = explain(IMAGE, said, Path("/etc/ostree/auth.json"))
    assert isinstance(error, HostConfigurationError)
    assert not isinstance(error, TransientFetchError)
    assert remedy in error.remedy
    assert "\n" not in error.fact
