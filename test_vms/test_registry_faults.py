"""A registry that fails never hurts the host: old system untouched, staged only what came whole, a retry finishes.

One registry serves all tests, with TLS and a password; each test has a fresh machine that follows it.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bootc_build.onhost.process import run
from bootc_build.testing.factory import MachineFactory
from bootc_build.testing.faults import REGISTRY_FAULTS, registry_fault
from bootc_build.tools.buildah import remove_image, working_container
from bootc_build.vm.machine import Machine
from bootc_build.vm.registry import Registry
from test_vms.example_os import FOLLOWS, Versions

pytestmark = pytest.mark.bootc_registry(tls=True, auth=("host", "secret"))

_PREFIX = "registry.example"
_UPGRADE_SECONDS = 900.0
# A few seconds more than the agent waits for a connection that stalls, and for the retries after it.
_GIVING_UP_SECONDS = 1200.0
# What runs without --all; the others are `long`.
_SAMPLE = ("truncated-layer", "expired-certificate")


@dataclass(frozen=True)
class Shelf:
    """The registry, with version 1 and three small layers upon it: `next` has a and b, `later` a and c."""

    registry: Registry
    next: str
    later: str


def _with_layer(parent: str, name: str, version: str | None = None) -> str:
    """An image with one more layer, of two megabytes; its id."""
    with working_container(parent) as container:
        file = container.mount() / "usr/share/faults" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(random.Random(name).randbytes(2_000_000))  # noqa: S311 - any bytes do
        if version is not None:
            label = f"org.opencontainers.image.version={version}"
            run(["buildah", "config", "--label", label, container.name])
        return container.commit(None, timestamp=1)


@pytest.fixture(scope="module")
def shelf(versions: Versions, bootc_registry_module: Registry) -> Iterator[Shelf]:
    first = _with_layer(versions.one, "a")
    images = [_with_layer(first, name, name) for name in ("next", "later")]
    try:
        yield Shelf(bootc_registry_module, *images)
    finally:
        for image in (*images, first):
            remove_image(image)


@pytest.fixture
def registry(shelf: Shelf) -> Registry:
    """It offers `next` under the tag that the machines follow."""
    shelf.registry.push(shelf.next, "os:stable")
    return shelf.registry


@pytest.fixture
def host(bootc_vm: MachineFactory, versions: Versions) -> Machine:
    """A machine of version 1 that knows nothing of the registry yet."""
    return bootc_vm(versions.one, origin=FOLLOWS)


@dataclass(frozen=True)
class Before:
    """The state of a host that a failed upgrade must not change."""

    checksum: str | None
    boot_entries: str


def _state(host: Machine) -> Before:
    entries = host.succeed("cd /boot/loader/entries && sha256sum *")
    return Before(host.bootc.booted.checksum, entries)


def _check(host: Machine, before: Before, *, staged: str | None) -> None:
    """The oracle: what runs and what boots next are as they were."""
    status = host.bootc.status()
    assert status.booted is not None
    assert status.booted.version == "1"
    assert (status.staged.version if status.staged else None) == staged
    assert _state(host) == before


def _finish(host: Machine, before: Before, registry: Registry) -> None:
    """A retry without fault: it fetches no layer that the host has, and stages the new version.

    Nothing of what failed before is left half in the repository.
    """
    host.bootc.upgrade(seconds=_UPGRADE_SECONDS)
    _check(host, before, staged="next")
    host.succeed("ostree fsck --quiet", seconds=900)
    # What was only slow is good, too.
    good = [
        each.digest
        for each in registry.requests("layer")
        if each.complete and (not each.fault or "slow" in str(each.fault))
    ]
    assert len(good) == len(set(good)) == 2


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in _SAMPLE else pytest.mark.long)
        for name in REGISTRY_FAULTS
    ],
)
def test_a_fault_never_hurts(name: str, host: Machine, registry: Registry) -> None:
    before = _state(host)
    registry.configure(host, _PREFIX)
    with registry_fault(registry, name) as fault:
        done = host.execute("bootc upgrade", seconds=_GIVING_UP_SECONDS)
        assert (done.status == 0) == fault.passes, done.error_text
    assert "Traceback" not in done.error_text
    if not fault.passes:
        assert "os:stable" in done.error_text
        _check(host, before, staged=None)
    _finish(host, before, registry)


def test_a_missing_password_is_named_and_then_used(host: Machine, registry: Registry) -> None:
    before = _state(host)
    registry.configure(host, _PREFIX, auth=False)
    said = host.fail("bootc upgrade", seconds=_UPGRADE_SECONDS)
    assert "no credentials" in said
    assert "skopeo login --authfile /etc/ostree/auth.json" in said
    assert registry.requests("layer") == ()
    _check(host, before, staged=None)
    registry.configure(host, _PREFIX)
    _finish(host, before, registry)


@pytest.mark.long
def test_a_password_that_has_changed_names_the_auth_file(host: Machine, shelf: Shelf) -> None:
    with Registry(tls=True, auth=("host", "old")) as registry:
        registry.push(shelf.next, "os:stable")
        before = _state(host)
        registry.configure(host, _PREFIX)
        registry.change_password("new")
        assert "/etc/ostree/auth.json" in host.fail("bootc upgrade", seconds=_UPGRADE_SECONDS)
        _check(host, before, staged=None)
        registry.configure(host, _PREFIX)
        _finish(host, before, registry)


@pytest.mark.long
def test_an_authority_that_is_not_trusted_is_named(host: Machine, registry: Registry) -> None:
    before = _state(host)
    registry.configure(host, _PREFIX)
    trusted = f"/etc/containers/certs.d/{registry.guest_address}/ca.crt"
    host.succeed(f"mv {trusted} /var/tmp/ca.crt")
    said = host.fail("bootc upgrade", seconds=_UPGRADE_SECONDS)
    assert "certificate" in said
    assert "/etc/containers/certs.d/" in said
    _check(host, before, staged=None)
    host.succeed(f"mv /var/tmp/ca.crt {trusted}")
    _finish(host, before, registry)


@pytest.mark.long
def test_a_tag_that_moves_during_the_upgrade_mixes_nothing(
    host: Machine, registry: Registry, shelf: Shelf
) -> None:
    before = _state(host)
    registry.configure(host, _PREFIX)
    later = registry.push(shelf.later, "os:later")
    registry.faults.expect("layer").swap_tag("stable", to="later")
    host.bootc.upgrade(seconds=_UPGRADE_SECONDS)
    _check(host, before, staged="next")
    host.bootc.upgrade(seconds=_UPGRADE_SECONDS)
    _check(host, before, staged="later")
    assert host.bootc.staged.digest == later
    host.succeed("ostree fsck --quiet", seconds=900)
    host.reboot()
    assert host.bootc.booted.version == "later"
    assert host.succeed("ls /usr/share/faults").split() == ["a", "later"]
    assert host.bootc.rollback_target.checksum == before.checksum


def _set_network(host: Machine, *, up: bool) -> None:
    """Let the network swallow everything, or be there again; the guest's card keeps its carrier."""
    host.qemu.monitor.execute("set_link", name="net0", up=up)


def _lose_network_during_upgrade(host: Machine, registry: Registry) -> None:
    """An upgrade runs as the unit `try`, and the network is gone in the middle of a layer."""
    fault = registry.faults.expect("layer").stall(1000)
    host.succeed("systemd-run --quiet --unit=try --property=RemainAfterExit=yes bootc upgrade")
    fault.wait(host.seconds(_UPGRADE_SECONDS))
    _set_network(host, up=False)
    fault.release()


def _result(host: Machine) -> str:
    ended = "test $(systemctl show --property=SubState --value try) != running"
    host.wait_until_succeeds(ended, seconds=_GIVING_UP_SECONDS)
    return host.succeed("systemctl show --property=Result --value try").strip()


@pytest.mark.long
def test_a_network_that_comes_back_costs_a_retry(host: Machine, registry: Registry) -> None:
    before = _state(host)
    registry.configure(host, _PREFIX)
    _lose_network_during_upgrade(host, registry)
    host.wait_until_succeeds("journalctl -u try | grep 'Trying again'", seconds=_GIVING_UP_SECONDS)
    assert host.bootc.status().staged is None
    _set_network(host, up=True)
    assert _result(host) == "success"
    _check(host, before, staged="next")
    host.succeed("ostree fsck --quiet", seconds=900)


@pytest.mark.long
def test_a_network_that_stays_away_ends_the_upgrade(host: Machine, registry: Registry) -> None:
    before = _state(host)
    registry.configure(host, _PREFIX)
    _lose_network_during_upgrade(host, registry)
    assert _result(host) == "exit-code"
    _check(host, before, staged=None)
    _set_network(host, up=True)
    host.succeed("systemctl reset-failed")
    _finish(host, before, registry)
