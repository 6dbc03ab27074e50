"""Fetching from a real registry that misbehaves, through a proxy that makes it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci import imageproxy, retry
from bootc_build.onhost.oci.fetch_errors import (
    AccessDeniedError,
    CertificateError,
    ImageNotFoundError,
    StalledError,
    TooManyRequestsError,
    TransientFetchError,
)
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.oci.refnames import image_ref, layer_ref
from bootc_build.onhost.ostree.repo import Repo
from bootc_build.onhost.progress import Transfer
from bootc_build.onhost.pull import PulledImage, probe, pull
from bootc_build.vm.registry import Registry
from bootc_build.vm.waiting import wait_until
from tests.onhost.importing import Counted, listing
from tests.onhost.oci_images import File, WrittenImage, write_image
from tests.registry_home import skopeo, write_home

LAYERS = 6
LAYER_BYTES = 300_000


class Watched(Counted):
    def __init__(self) -> None:
        super().__init__()
        self.states: list[Transfer] = []

    def transfer(self, state: Transfer) -> None:
        self.states.append(state)


@dataclass(frozen=True)
class Pushed:
    """An image of several layers in a registry, whose faults a test may choose."""

    registry: Registry
    reference: ImageReference
    written: WrittenImage

    def layer(self, number: int) -> str:
        """Of which the path is, for `expect(path=…)`."""
        return self.written.layer_digests[number]

    @property
    def layer_requests(self) -> list[str]:
        return [str(request.digest) for request in self.registry.requests("layer", method="GET")]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    folder = tmp_path_factory.mktemp("registry")
    layers = [[File(f"usr/{n}", data=os.urandom(LAYER_BYTES))] for n in range(LAYERS)]
    with Registry(folder) as registry:
        yield push(registry, folder, write_image(folder / "layout", layers), "os:1")


def push(registry: Registry, folder: Path, image: WrittenImage, name: str) -> Pushed:
    home = write_home(registry, folder / "home")
    where = f"{registry.address}/{name}"
    done = skopeo(home, "copy", "-q", image.skopeo, f"docker://{where}")
    assert done.returncode == 0, done.stderr
    return Pushed(registry, ImageReference("registry", where), image)


@pytest.fixture
def pushed(shared: Pushed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pushed]:
    """The image, a home whose skopeo may fetch it, and a patience that suits tests."""
    monkeypatch.setenv("HOME", str(write_home(shared.registry, tmp_path / "home")))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(
        retry, "BACKOFF", retry.Backoff(attempts=4, first_seconds=0.01, busy_seconds=0.02)
    )
    shared.registry.forget_requests()
    yield shared
    shared.registry.faults.check()
    shared.registry.faults.clear()


def arrives(repo: Repo, pushed: Pushed, progress: Counted | None = None) -> PulledImage:
    result = pull(repo, pushed.reference, progress=progress or Counted())
    found = listing(repo, result.merge_commit)
    assert set(found) == {"/", "/usr", *(f"/usr/{n}" for n in range(LAYERS))}
    return result


def test_several_layers_are_on_their_way_at_once(repo: Repo, pushed: Pushed) -> None:
    stall = pushed.registry.faults.expect("layer", times=4).stall()

    def release() -> None:
        wait_until(lambda: stall.happened == 4, seconds=60)  # all four, before any goes on
        stall.release()

    releasing = threading.Thread(target=release)
    releasing.start()
    watched = Watched()
    arrives(repo, pushed, watched)
    releasing.join()
    assert max(len(state.running) for state in watched.states) == 4
    counts = [(state.layers_done, state.bytes_done) for state in watched.states]
    assert counts == sorted(counts)
    last = watched.states[-1]
    assert (last.layers_done, last.bytes_done) == (LAYERS, last.bytes_total)
    assert len(pushed.layer_requests) == LAYERS


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_registry_that_is_down_for_a_moment_is_asked_again(
    repo: Repo, pushed: Pushed, status: int
) -> None:
    pushed.registry.faults.expect("tag", times=2).respond(status)
    pushed.registry.faults.expect("layer", nth=3, times=2).respond(status)
    progress = Counted()
    arrives(repo, pushed, progress)
    assert sum("Trying again" in step for step in progress.steps) == 4


def test_a_connection_that_breaks_is_made_again_for_that_layer_alone(
    repo: Repo, pushed: Pushed
) -> None:
    path = pushed.layer(1).removeprefix("sha256:")
    pushed.registry.faults.expect("layer", path=path).drop(10_000)
    arrives(repo, pushed)
    others = [digest for digest in pushed.layer_requests if digest != pushed.layer(1)]
    assert sorted(others) == sorted(set(pushed.written.layer_digests) - {pushed.layer(1)})


def test_a_truncated_and_a_damaged_layer_are_fetched_again(repo: Repo, pushed: Pushed) -> None:
    pushed.registry.faults.expect("layer", nth=2).truncate(20_000)
    pushed.registry.faults.expect("layer", nth=2).corrupt()
    arrives(repo, pushed)


def test_a_layer_that_is_always_damaged_is_given_up_and_nothing_refers_to_it(
    repo: Repo, pushed: Pushed
) -> None:
    path = pushed.layer(2).removeprefix("sha256:")
    pushed.registry.faults.expect("layer", path=path, times=3).corrupt()
    with pytest.raises(UserError):
        pull(repo, pushed.reference, progress=Counted())
    assert pushed.layer_requests.count(pushed.layer(2)) == 3
    refs = repo.refs("ostree/container")
    assert layer_ref(pushed.layer(2)) not in refs
    assert image_ref(pushed.reference) not in refs


def test_a_stalled_connection_is_noticed_and_replaced(
    repo: Repo, pushed: Pushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imageproxy, "IDLE_SECONDS", 1)
    stall = pushed.registry.faults.expect("layer", nth=2).stall(50_000)
    progress = Counted()
    arrives(repo, pushed, progress)
    assert any("hardly anything has arrived for 1 seconds" in step for step in progress.steps)
    stall.release()


def test_a_registry_that_never_answers_is_noticed(
    pushed: Pushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imageproxy, "ANSWER_SECONDS", 1)
    stall = pushed.registry.faults.expect("manifest", times=None).stall()
    with pytest.raises(StalledError, match="nothing was answered for 1 seconds"):
        probe(pushed.reference)
    stall.release()


def test_too_many_requests_are_waited_for_as_long_as_the_registry_says(
    repo: Repo, pushed: Pushed
) -> None:
    """skopeo itself honours Retry-After; what reaches bootc has been refused for longer."""
    pushed.registry.faults.expect("layer", nth=2).respond(429, retry_after=1)
    arrives(repo, pushed)
    refused = next(r for r in pushed.registry.requests("layer") if r.status == 429)
    again = [r for r in pushed.registry.requests("layer") if r.digest == refused.digest]
    assert again[1].at - again[0].at >= 1


def test_the_wait_for_a_busy_registry_is_never_short() -> None:
    backoff = retry.Backoff()
    assert backoff.seconds(1, TooManyRequestsError("")) == backoff.busy_seconds
    waits = [backoff.seconds(n, TransientFetchError("")) for n in range(1, 12)]
    assert 0.5 <= waits[0] <= 1
    assert 4 <= waits[3] <= 8
    assert max(waits) <= backoff.most_seconds
    assert len({backoff.seconds(5, TransientFetchError("")) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("tag", 404, ImageNotFoundError),
        ("tag", 403, AccessDeniedError),
        ("tag", 401, AccessDeniedError),
        ("layer", 403, AccessDeniedError),
    ],
)
def test_what_no_other_try_can_mend_is_not_tried_again(
    repo: Repo, pushed: Pushed, kind: str, status: int, expected: type[UserError]
) -> None:
    pushed.registry.faults.expect(kind, times=None).respond(status)  # type: ignore[arg-type]
    progress = Counted()
    with pytest.raises(expected):
        pull(repo, pushed.reference, progress=progress)
    assert not any("Trying again" in step for step in progress.steps)


def test_what_is_complete_stays_when_another_layer_fails(repo: Repo, pushed: Pushed) -> None:
    path = pushed.layer(LAYERS - 1).removeprefix("sha256:")
    pushed.registry.faults.expect("layer", path=path, times=4).respond(500)
    with pytest.raises(TransientFetchError):
        pull(repo, pushed.reference, progress=Counted())
    kept = set(repo.refs("ostree/container/blob"))
    assert len(kept) >= 2
    pushed.registry.faults.check()
    pushed.registry.faults.clear()
    pushed.registry.forget_requests()
    arrives(repo, pushed)
    fetched = set(pushed.layer_requests)
    assert fetched == {d for d in pushed.written.layer_digests if layer_ref(d) not in kept}


def test_a_tag_that_moves_meanwhile_moves_nothing(
    repo: Repo, pushed: Pushed, tmp_path: Path
) -> None:
    other = write_image(tmp_path / "layout", [[File("usr/other")]], tag="other")
    push(pushed.registry, tmp_path, other, "os:other")
    pushed.registry.forget_requests()
    pushed.registry.faults.expect("layer", nth=1).swap_tag("1", to="other")
    assert arrives(repo, pushed).manifest_digest == pushed.written.manifest_digest
    assert probe(pushed.reference).manifest_digest == other.manifest_digest
    push(pushed.registry, tmp_path, pushed.written, "os:1")


def test_an_expired_certificate_is_said_and_not_tried_again(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_image(tmp_path / "layout", [[File("usr/a")]])
    with Registry(tmp_path, tls=True, auth=("somebody", "secret")) as registry:
        home = write_home(registry, tmp_path / "home")
        auth = tmp_path / "auth.json"
        auth.write_text(registry.auth_json(registry.address))
        where = f"{registry.address}/os:1"
        done = skopeo(home, "copy", "-q", f"--authfile={auth}", image.skopeo, f"docker://{where}")
        assert done.returncode == 0, done.stderr
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth))
        reference = ImageReference("registry", where)
        registry.faults.expire_certificate()
        progress = Counted()
        with pytest.raises(CertificateError, match="expired"):
            pull(repo, reference, progress=progress)
        assert progress.steps == []
        registry.faults.check()
        registry.faults.clear()
        assert "/usr/a" in listing(repo, pull(repo, reference, progress=progress).merge_commit)
        registry.change_password("another")
        with pytest.raises(AccessDeniedError) as caught:
            probe(reference)
        assert registry.address in caught.value.fact
        assert str(auth) in caught.value.fact
        assert str(auth) in caught.value.remedy


PULL_AND_WAIT = """
import sys
from pathlib import Path
from bootc_build.onhost.interruption import unwind_on_signals
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.ostree.repo import open_repo
from bootc_build.onhost.progress import Silent
from bootc_build.onhost.pull import pull
unwind_on_signals()
pull(open_repo(Path(sys.argv[1])), ImageReference("registry", sys.argv[2]), progress=Silent())
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_pull_ends_at_once_and_the_next_one_goes_on(
    repo: Repo, pushed: Pushed, sent: signal.Signals
) -> None:
    path = pushed.layer(LAYERS - 1).removeprefix("sha256:")
    stall = pushed.registry.faults.expect("layer", path=path).stall(50_000)
    command = [sys.executable, "-c", PULL_AND_WAIT, str(repo.path), pushed.reference.name]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        stall.wait(60)
        process.send_signal(sent)
        status = process.wait(20)
    stall.release()
    assert status == {signal.SIGINT: -2, signal.SIGTERM: 143, signal.SIGKILL: -9}[sent]
    kept = set(repo.refs("ostree/container/blob"))
    pushed.registry.forget_requests()
    arrives(repo, pushed)
    assert set(pushed.layer_requests) == {
        digest for digest in pushed.written.layer_digests if layer_ref(digest) not in kept
    }
