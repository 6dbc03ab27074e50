"""What the agent makes of a registry that fails: a retry or a clear error, nothing half, and no layer twice.

Every test ends in `ostree fsck` (the fixture `repo`) and in the check that its faults happened (`bootc_registry`).
"""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci import imageproxy, retry
from bootc_build.onhost.oci.fetch_errors import (
    AccessDeniedError,
    CertificateError,
    ImageNotFoundError,
    StalledError,
)
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.progress import Silent
from bootc_build.onhost.pull import PulledImage, probe, pull
from bootc_build.testing.faults import REGISTRY_FAULTS, registry_fault
from bootc_build.vm.registry import Registry
from bootc_build.vm.waiting import wait_until
from tests.onhost.importing import PULL_IN_ANOTHER_PROCESS, content
from tests.onhost.oci_images import Dir, Entry, File, WrittenImage, write_image
from tests.registry_home import skopeo, write_home

USER = ("host", "secret")
TLS = pytest.mark.bootc_registry(tls=True)
PASSWORD = pytest.mark.bootc_registry(auth=USER)
PASSING = [name for name, fault in REGISTRY_FAULTS.items() if fault.passes and not fault.needs_tls]
FAILING = [
    name for name, fault in REGISTRY_FAULTS.items() if not fault.passes and not fault.needs_tls
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same retries with shorter waits."""
    quick = retry.Backoff(attempts=4, first_seconds=0.05, busy_seconds=0.1)
    monkeypatch.setattr(retry, "BACKOFF", quick)
    monkeypatch.setattr(imageproxy, "IDLE_SECONDS", 2)


@pytest.fixture
def home(bootc_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process, and what it starts, may use the registry."""
    path = write_home(bootc_registry, tmp_path / "home")
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    return path


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return tmp_path / "layout"


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(300_000)  # noqa: S311 - any bytes do


def version(layout: Path, number: int) -> WrittenImage:
    """Three layers, of which the last is another one in each version."""
    layers: list[list[Entry]] = [
        [Dir("usr"), File("usr/a", data=noise(1))],
        [File("usr/b", data=noise(2))],
        [File("usr/version", data=noise(100 + number))],
    ]
    return write_image(layout, layers, tag=str(number))


def push(registry: Registry, home: Path, image: WrittenImage, tag: str) -> ImageReference:
    """Push past all faults, through the proxy but before any is armed; the log begins anew after it."""
    where = f"{registry.address}/os:{tag}"
    credentials = [f"--dest-creds={':'.join(USER)}"] if registry.has_password else []
    done = skopeo(home, "copy", "-q", *credentials, image.skopeo, f"docker://{where}")
    assert done.returncode == 0, done.stderr
    registry.forget_requests()
    return ImageReference("registry", where)


def fetch(repo: Repo, image: ImageReference) -> PulledImage:
    return pull(repo, image, progress=Silent())


def fetched(registry: Registry) -> list[str]:
    return [str(each.digest) for each in registry.requests("layer") if each.complete]


def complete(repo: Repo, image: WrittenImage) -> set[str]:
    return {digest for digest in image.layer_digests if repo.resolve_ref(layer_ref(digest))}


@pytest.mark.parametrize("fault", PASSING)
def test_a_passing_fault_costs_a_retry_and_nothing_else(
    bootc_registry: Registry, home: Path, repo: Repo, layout: Path, fault: str
) -> None:
    image = version(layout, 1)
    reference = push(bootc_registry, home, image, "stable")
    with registry_fault(bootc_registry, fault):
        result = fetch(repo, reference)
    assert result.manifest_digest == image.manifest_digest
    assert content(repo, result.merge_commit, "/usr/version") == noise(101)
    # What is only slow is not asked for again.
    slow = fault == "slow-layers"
    good = [each for each in bootc_registry.requests("layer") if slow or not each.fault]
    assert sorted(str(each.digest) for each in good) == sorted(image.layer_digests)


@pytest.mark.parametrize("fault", FAILING)
def test_a_lasting_fault_is_an_error_and_the_next_pull_finishes(
    bootc_registry: Registry, home: Path, repo: Repo, layout: Path, fault: str
) -> None:
    image = version(layout, 1)
    reference = push(bootc_registry, home, image, "stable")
    with (
        registry_fault(bootc_registry, fault),
        pytest.raises(UserError, match=r"os:stable|layer") as caught,
    ):
        fetch(repo, reference)
    assert caught.value.remedy
    assert repo.resolve_ref(image_ref(reference)) is None
    assert complete(repo, image) == set()
    bootc_registry.forget_requests()
    assert fetch(repo, reference).manifest_digest == image.manifest_digest
    assert sorted(fetched(bootc_registry)) == sorted(image.layer_digests)


def test_layers_that_were_complete_before_the_error_are_not_fetched_again(
    bootc_registry: Registry, home: Path, repo: Repo, layout: Path
) -> None:
    image = version(layout, 1)
    reference = push(bootc_registry, home, image, "stable")
    broken = image.layer_digests[1]
    # Slowly wrong, so that the others are through.
    stalled = bootc_registry.faults.expect("layer", path=broken).stall(1000)
    bootc_registry.faults.expect("layer", path=broken, times=None).respond(401)
    with pytest.raises(UserError):
        fetch(repo, reference)
    assert stalled.happened == 1
    kept = complete(repo, image)
    assert kept == set(image.layer_digests) - {broken}
    bootc_registry.faults.check()
    bootc_registry.faults.clear()
    bootc_registry.forget_requests()
    fetch(repo, reference)
    assert fetched(bootc_registry) == [broken]


def test_a_pull_that_is_killed_goes_on_where_it_was(
    bootc_registry: Registry, home: Path, repo: Repo, layout: Path
) -> None:
    image = version(layout, 1)
    reference = push(bootc_registry, home, image, "stable")
    broken = image.layer_digests[2]
    fault = bootc_registry.faults.expect("layer", path=broken).stall(1000)
    command = [sys.executable, "-c", PULL_IN_ANOTHER_PROCESS, str(repo.path)]
    with subprocess.Popen([*command, f"docker://{reference.name}"]) as process:
        fault.wait(60)
        others = set(image.layer_digests) - {broken}
        assert wait_until(lambda: complete(repo, image) == others, seconds=60)
        process.kill()
    assert repo.resolve_ref(image_ref(reference)) is None
    bootc_registry.forget_requests()
    fetch(repo, reference)
    assert fetched(bootc_registry) == [broken]


def test_an_upgrade_fetches_only_what_is_new_and_nothing_when_nothing_is(
    bootc_registry: Registry, home: Path, repo: Repo, layout: Path
) -> None:
    fetch(repo, push(bootc_registry, home, version(layout, 1), "stable"))
    second = version(layout, 2)
    reference = push(bootc_registry, home, second, "stable")
    fetch(repo, reference)
    assert fetched(bootc_registry) == [second.layer_digests[2]]
    bootc_registry.faults.forbid("layer")
    assert fetch(repo, reference).already_present


def test_a_connection_that_stalls_every_time_is_given_up(
    bootc_registry: Registry,
    home: Path,
    repo: Repo,
    layout: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "BACKOFF", retry.Backoff(attempts=2, first_seconds=0.05))
    reference = push(bootc_registry, home, version(layout, 1), "stable")
    bootc_registry.faults.expect("layer", times=None).stall(1000)
    begun = time.monotonic()
    with pytest.raises(StalledError, match="hardly anything has arrived"):
        fetch(repo, reference)
    assert time.monotonic() - begun < 60
    assert repo.resolve_ref(image_ref(reference)) is None


def test_a_slow_connection_is_no_stalled_one(
    bootc_registry: Registry, home: Path, repo: Repo, layout: Path
) -> None:
    image = version(layout, 1)
    reference = push(bootc_registry, home, image, "stable")
    # A layer takes three seconds at this rate, longer than a stalled one is waited for.
    bootc_registry.faults.expect("layer", times=3).slow(100_000)
    assert fetch(repo, reference).manifest_digest == image.manifest_digest
    assert sorted(fetched(bootc_registry)) == sorted(image.layer_digests)


def test_a_registry_that_is_out_of_order_is_asked_a_bounded_number_of_times(
    bootc_registry: Registry, home: Path, repo: Repo, layout: Path
) -> None:
    reference = push(bootc_registry, home, version(layout, 1), "stable")
    bootc_registry.faults.expect("tag", times=None).respond(503)
    with pytest.raises(UserError, match=r"503|service unavailable"):
        fetch(repo, reference)
    assert len(bootc_registry.requests("tag")) == retry.BACKOFF.attempts


@pytest.mark.usefixtures("home")
def test_an_image_that_is_not_there_is_asked_for_once(bootc_registry: Registry) -> None:
    with pytest.raises(ImageNotFoundError):
        probe(ImageReference("registry", f"{bootc_registry.address}/os:none"))
    assert len(bootc_registry.requests("tag")) == 1


def test_a_tag_that_moves_during_the_pull_mixes_nothing(
    bootc_registry: Registry, home: Path, repo: Repo, layout: Path
) -> None:
    first, second = version(layout, 1), version(layout, 2)
    push(bootc_registry, home, second, "next")
    reference = push(bootc_registry, home, first, "stable")
    bootc_registry.faults.expect("layer").swap_tag("stable", to="next")
    result = fetch(repo, reference)
    assert result.manifest_digest == first.manifest_digest
    assert content(repo, result.merge_commit, "/usr/version") == noise(101)
    after = fetch(repo, reference)
    assert after.manifest_digest == second.manifest_digest
    assert content(repo, after.merge_commit, "/usr/version") == noise(102)


@PASSWORD
def test_credentials_that_expire_name_the_registry_and_the_auth_file(
    bootc_registry: Registry,
    home: Path,
    repo: Repo,
    layout: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference = push(bootc_registry, home, version(layout, 1), "stable")
    auth = home / "auth.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth))
    auth.write_text(bootc_registry.auth_json(bootc_registry.address))
    assert probe(reference).manifest.layers
    bootc_registry.change_password("another")
    bootc_registry.forget_requests()
    with pytest.raises(AccessDeniedError) as caught:
        fetch(repo, reference)
    assert bootc_registry.address in caught.value.fact
    assert str(auth) in caught.value.fact
    assert f"skopeo login --authfile {auth}" in caught.value.remedy
    assert bootc_registry.requests("layer") == ()
    auth.write_text(bootc_registry.auth_json(bootc_registry.address))
    fetch(repo, reference)


@PASSWORD
def test_without_credentials_the_error_says_so(
    bootc_registry: Registry, home: Path, repo: Repo, layout: Path
) -> None:
    reference = push(bootc_registry, home, version(layout, 1), "stable")
    with pytest.raises(AccessDeniedError, match="no credentials") as caught:
        fetch(repo, reference)
    assert "/etc/ostree/auth.json" in caught.value.remedy


@TLS
def test_an_expired_certificate_is_named_and_not_tried_again_and_again(
    bootc_registry: Registry, home: Path, repo: Repo, layout: Path
) -> None:
    image = version(layout, 1)
    reference = push(bootc_registry, home, image, "stable")
    with registry_fault(bootc_registry, "expired-certificate"):
        begun = time.monotonic()
        with pytest.raises(CertificateError, match="certificate has expired"):
            fetch(repo, reference)
        assert time.monotonic() - begun < 15
        assert bootc_registry.requests() == ()
    assert fetch(repo, reference).manifest_digest == image.manifest_digest
