"""moto's server as AWS, and a disk to publish."""

import random
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import boto3
import botocore.loaders
import pytest

from bootc_build.publish.ami_plan import AmiRequest
from bootc_build.publish.aws import Access, Client
from bootc_build.tools.sfdisk import GptEntry, write_gpt
from tests.publish.aws_proxy import AwsProxy

MIB = 1024 * 1024
BLOCK = 512 * 1024
REGION = "eu-central-1"
# Blocks of the disk that are not zero.
USED = (0, 3, 4, 5, 100, 101, 500, 777, 778, 1024, 1500, 2047)


READ_ONLY = {
    "GetCallerIdentity",
    "DescribeRegions",
    "DescribeImages",
    "RegisterImage(trial)",
    "CopyImage(trial)",
}


@pytest.fixture(scope="session", autouse=True)
def read_the_services_once() -> Iterator[None]:
    """Every client would read the description of its service from disk, a second each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.loaders, "create_loader", cache(botocore.loaders.create_loader))
        yield


@pytest.fixture(scope="session")
def moto_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    log = tmp_path_factory.mktemp("moto") / "log"
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-p", str(port)],
            stdout=file,
            stderr=file,
            env={"MOTO_EC2_LOAD_DEFAULT_AMIS": "false", "PATH": "/usr/bin:/bin"},
        ) as process,
    ):
        try:
            _wait_for(port, process, log)
            yield port
        finally:
            process.terminate()


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    waited = 0
    while process.poll() is None and waited < 1200:
        with socket.socket() as probe:
            probe.settimeout(0.1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        waited += 1
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    raise RuntimeError(f"moto's server does not come up:\n{log.read_text()}")


@pytest.fixture
def aws(moto_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsProxy]:
    """AWS as it is in this test; images have names of their own, so no test sees another's."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with AwsProxy(moto_port) as proxy:
        yield proxy


@pytest.fixture
def name() -> str:
    """A name for an image that no other test has."""
    return f"os-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return write_disk(tmp_path / "disk.ami.raw")


def write_disk(
    path: Path, *, root: str = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", seed: int = 1
) -> Path:
    """1 GiB with a partition table and some blocks that are not zero; a stretch of zeros is stored."""
    content = random.Random(seed)  # noqa: S311 - any bytes do
    with path.open("xb") as file:
        file.truncate(1024 * MIB)
        for index in USED:
            file.seek(index * BLOCK + (0 if index == 0 else 4096))
            file.write(content.randbytes(1000))
        file.seek(200 * BLOCK)
        file.write(bytes(4 * BLOCK))
    write_gpt(path, uuid.uuid4(), [GptEntry(1, 2048, 2048, uuid.UUID(root), uuid.uuid4(), "root")])
    return path


def client(proxy: AwsProxy, service: str, region: str = REGION) -> Client:
    return boto3.client(service, region_name=region, endpoint_url=proxy.url)


@pytest.fixture
def request_(disk: Path, name: str, aws: AwsProxy) -> AmiRequest:
    return AmiRequest(disk, name, REGION, workers=4, access=Access(endpoint=aws.url, connections=4))
