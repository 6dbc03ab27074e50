"""Each fault as a client on the wire meets it, and what is checked afterwards; the registry is the real one."""

import hashlib
import http.client
import json
import random
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bootc_build.vm.registry import Registry
from bootc_build.vm.registry_faults import FaultExpectationError
from tests.onhost.oci_images import File, write_image
from tests.registry_home import skopeo, write_home

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# Of the kind that does not get smaller.
_PAYLOAD = random.Random(1).randbytes(1_000_000)  # noqa: S311 - any bytes do


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with `os:1` and `os:2`, pushed through the proxy."""
    folder = tmp_path_factory.mktemp("registry")
    with Registry(folder) as registry:
        home = write_home(registry, folder / "home")
        for tag in ("1", "2"):
            layer = [File("usr/a", data=_PAYLOAD), File("usr/tag", data=tag.encode())]
            image = write_image(folder / "layout", [layer], tag=tag)
            done = skopeo(home, "copy", "-q", image.skopeo, f"docker://{registry.address}/os:{tag}")
            assert done.returncode == 0, done.stderr
        yield registry


@pytest.fixture
def registry(shared: Registry) -> Iterator[Registry]:
    shared.forget_requests()
    yield shared
    shared.faults.clear()


@dataclass(frozen=True)
class Got:
    status: int
    headers: dict[str, str]
    body: bytes


def get(registry: Registry, path: str, *, method: str = "GET", byte_range: str = "") -> Got:
    connection = http.client.HTTPConnection(registry.address, timeout=30)
    headers = {"Accept": _MANIFEST, **({"Range": byte_range} if byte_range else {})}
    try:
        connection.request(method, path, headers=headers)
        with connection.getresponse() as answer:
            return Got(answer.status, dict(answer.headers), answer.read())
    finally:
        connection.close()


def manifest(registry: Registry, tag: str = "1") -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(get(registry, f"/v2/os/manifests/{tag}").body)
    return parsed


def layer_path(registry: Registry) -> str:
    path = f"/v2/os/blobs/{manifest(registry)['layers'][0]['digest']}"
    registry.forget_requests()
    return path


def test_without_faults_everything_passes_unchanged(registry: Registry) -> None:
    path = layer_path(registry)
    whole = get(registry, path)
    assert whole.status == 200
    assert f"sha256:{hashlib.sha256(whole.body).hexdigest()}" == path.rpartition("/")[2]
    part = get(registry, path, byte_range="bytes=1000-1999")
    assert (part.status, part.body) == (206, whole.body[1000:2000])
    head = get(registry, path, method="HEAD")
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(whole.body)))
    assert get(registry, "/v2/os/manifests/none").status == 404
    registry.faults.check()


def test_the_log_says_what_was_asked_and_sent(registry: Registry) -> None:
    config = manifest(registry)["config"]
    size = len(get(registry, f"/v2/os/blobs/{config['digest']}").body)
    get(registry, "/v2/os/blobs/sha256:" + "0" * 64)
    tag, blob, missing = registry.requests()
    assert tag.kinds == {"manifest", "tag"}
    assert blob.kinds == {"blob", "config"}
    assert (blob.status, blob.sent) == (200, size)
    assert blob.digest == config["digest"]
    assert missing.kinds == {"blob", "layer"}
    assert missing.status == 404
    assert tag.complete
    assert blob.complete
    assert [each.path for each in registry.requests("layer")] == [missing.path]
    assert registry.log_text().count("\n") == 2
    assert "GET /v2/os/manifests/1: 200" in registry.log_text()


def test_an_answer_of_ones_own_comes_as_often_as_it_is_expected(registry: Registry) -> None:
    registry.faults.expect("tag", times=2).respond(503, retry_after=7)
    refused = [get(registry, "/v2/os/manifests/1") for _ in range(2)]
    assert [each.status for each in refused] == [503, 503]
    assert refused[0].headers["Retry-After"] == "7"
    assert json.loads(refused[0].body)["errors"][0]["code"] == "UNAVAILABLE"
    assert get(registry, "/v2/os/manifests/1").status == 200
    registry.faults.check()


def test_expectations_follow_each_other(registry: Registry) -> None:
    path = layer_path(registry)
    registry.faults.expect("layer").respond(429)
    registry.faults.expect("layer", nth=2).respond(500)
    assert [get(registry, path).status for _ in range(4)] == [429, 200, 500, 200]
    registry.faults.check()


def test_credentials_that_expire_are_refused_from_then_on(registry: Registry) -> None:
    path = layer_path(registry)
    registry.faults.expect("blob", nth=2, times=None).respond(401)
    answers = [get(registry, path) for _ in range(3)]
    assert [each.status for each in answers] == [200, 401, 401]
    assert answers[1].headers["WWW-Authenticate"].startswith("Basic")


def test_a_truncated_body_promises_its_whole_length(registry: Registry) -> None:
    path = layer_path(registry)
    registry.faults.expect("layer").truncate(300_000)
    with pytest.raises(http.client.IncompleteRead) as caught:
        get(registry, path)
    assert len(caught.value.partial) == 300_000
    [cut] = registry.requests("layer")
    assert (cut.sent, cut.complete, cut.status) == (300_000, False, 200)
    assert len(get(registry, path).body) > len(_PAYLOAD)
    registry.faults.check()


@pytest.mark.parametrize("after", [None, 1000])
def test_a_dropped_connection_is_reset(registry: Registry, after: int | None) -> None:
    path = layer_path(registry)
    registry.faults.expect("layer").drop(after)
    with pytest.raises(ConnectionResetError):
        get(registry, path)
    registry.faults.check()


def test_wrong_bytes_come_in_the_right_length(registry: Registry) -> None:
    path = layer_path(registry)
    right = get(registry, path).body
    registry.faults.expect("layer").corrupt(3, at=500_000)
    registry.faults.expect("layer").corrupt()
    first, second = (get(registry, path).body for _ in range(2))
    wrong = [
        index for index, pair in enumerate(zip(first, right, strict=True)) if len(set(pair)) > 1
    ]
    assert wrong == [500_000, 500_001, 500_002]
    middle = [
        index for index, pair in enumerate(zip(second, right, strict=True)) if len(set(pair)) > 1
    ]
    assert middle == [(len(right) - 1) // 2]
    registry.faults.check()


def test_a_stalled_answer_stays_open_until_it_is_released(registry: Registry) -> None:
    path = layer_path(registry)
    fault = registry.faults.expect("layer").stall(1000)
    got: list[Got] = []
    client = threading.Thread(target=lambda: got.append(get(registry, path)))
    client.start()
    fault.wait(30)
    [stalled] = registry.requests("layer")
    assert (stalled.sent, stalled.complete) == (1000, False)
    assert client.is_alive()
    fault.release()
    client.join(30)
    assert len(got[0].body) > len(_PAYLOAD)


def test_a_client_that_gives_up_ends_a_stalled_answer(registry: Registry) -> None:
    path = layer_path(registry)
    registry.faults.expect("layer").stall()
    connection = http.client.HTTPConnection(registry.address, timeout=0.3)
    connection.request("GET", path)
    with connection.getresponse() as answer, pytest.raises(TimeoutError):
        answer.read()
    connection.close()
    assert get(registry, path).status == 200


def test_a_slow_answer_takes_its_time(registry: Registry) -> None:
    path = layer_path(registry)
    registry.faults.expect("layer").slow(4_000_000)
    begun = time.monotonic()
    size = len(get(registry, path).body)
    assert time.monotonic() - begun >= size / 4_000_000
    registry.faults.check()


def test_a_tag_is_swapped_before_the_answer(registry: Registry) -> None:
    path = layer_path(registry)
    before = [
        get(registry, f"/v2/os/manifests/{tag}").headers["Docker-Content-Digest"] for tag in "12"
    ]
    registry.faults.expect("layer").swap_tag("1", to="2")
    assert get(registry, path).status == 200
    try:
        after = get(registry, "/v2/os/manifests/1").headers["Docker-Content-Digest"]
        assert after == before[1] != before[0]
    finally:
        registry.faults.expect("layer").swap_tag("1", to=before[0])
        get(registry, path)
    registry.faults.check()


def test_a_swap_to_what_is_not_there_fails_the_check(registry: Registry) -> None:
    path = layer_path(registry)
    registry.faults.expect("layer").swap_tag("1", to="none")
    with pytest.raises((http.client.HTTPException, OSError)):
        get(registry, path)
    with pytest.raises(FaultExpectationError, match="impossible: 'os' has no 'none'"):
        registry.faults.check()


def test_a_fault_that_never_happened_fails_the_check(registry: Registry) -> None:
    registry.faults.expect("layer").truncate(10)
    get(registry, "/v2/os/manifests/1")
    with pytest.raises(FaultExpectationError) as caught:
        registry.faults.check()
    assert "GET layer: cut after 10 bytes: never happened" in str(caught.value)
    assert "GET /v2/os/manifests/1: 200" in str(caught.value)


def test_a_fault_without_effect_has_not_happened(registry: Registry) -> None:
    path = layer_path(registry)
    for fault in ("truncate", "drop", "stall"):
        getattr(registry.faults.expect("layer"), fault)(10_000_000)
    registry.faults.expect("layer").corrupt(at=10_000_000)
    for _ in range(4):
        assert get(registry, path).status == 200
    with pytest.raises(FaultExpectationError) as caught:
        registry.faults.check()
    assert str(caught.value).count("never happened") == 4


def test_fewer_than_expected_fail_the_check(registry: Registry) -> None:
    registry.faults.expect("tag", times=3).respond(503)
    get(registry, "/v2/os/manifests/1")
    with pytest.raises(FaultExpectationError, match="1 of 3 times"):
        registry.faults.check()


def test_a_forbidden_request_is_refused_and_fails_the_check(registry: Registry) -> None:
    path = layer_path(registry)
    registry.faults.forbid("layer")
    assert get(registry, "/v2/os/manifests/1").status == 200
    registry.faults.check()
    assert get(registry, path).status == 403
    with pytest.raises(FaultExpectationError, match=f"Not expected, but seen:\n.*GET {path}"):
        registry.faults.check()


def test_requests_that_nobody_expects_can_be_refused(registry: Registry) -> None:
    path = layer_path(registry)
    registry.faults.expect("tag")
    registry.faults.refuse_others()
    assert get(registry, "/v2/os/manifests/1").status == 200
    registry.faults.check()
    assert get(registry, path).status == 403
    with pytest.raises(FaultExpectationError, match=path):
        registry.faults.check()


def test_a_path_chooses_the_requests(registry: Registry) -> None:
    registry.faults.expect(path=r"/manifests/2$").respond(500)
    assert get(registry, "/v2/os/manifests/1").status == 200
    assert get(registry, "/v2/os/manifests/2").status == 500


def test_an_end_during_a_stall_waits_for_nobody(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with Registry(tmp_path) as registry:
        registry.faults.expect("ping").stall()
        connection = http.client.HTTPConnection(registry.address, timeout=30)
        connection.request("GET", "/v2/")
        answer = connection.getresponse()
        begun = time.monotonic()
    assert time.monotonic() - begun < 15
    with answer, pytest.raises((http.client.HTTPException, OSError)):
        answer.read()
    connection.close()
    assert set(threading.enumerate()) <= before


def test_a_large_blob_streams_through_in_both_directions(tmp_path: Path) -> None:
    block, count = random.Random(2).randbytes(1 << 20), 96  # noqa: S311 - any bytes do
    whole = hashlib.sha256()
    for _ in range(count):
        whole.update(block)
    with Registry(tmp_path) as registry:
        connection = http.client.HTTPConnection(registry.address, timeout=60)
        connection.request("POST", "/v2/os/blobs/uploads/")
        begun = connection.getresponse()
        begun.read()
        place = f"{begun.headers['Location']}&digest=sha256%3A{whole.hexdigest()}"
        tracemalloc.start()
        try:
            connection.request("PUT", place, body=iter([block] * count), encode_chunked=True)
            stored = connection.getresponse()
            stored.read()
            assert stored.status == 201
            connection.request("GET", f"/v2/os/blobs/sha256:{whole.hexdigest()}")
            arrived = hashlib.sha256()
            with connection.getresponse() as answer:
                while chunk := answer.read(1 << 16):
                    arrived.update(chunk)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            connection.close()
    assert arrived.digest() == whole.digest()
    assert peak < 16 << 20
