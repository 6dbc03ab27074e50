"""Images in the user's own containers-storage, asked for through podman's API (podman-py).

podman-py speaks to a service on a socket; a private one is started on first use, on a socket that only
this process knows, and ended with the block (or with this process, should it die). podman-py of any
version then speaks to podman of any version by asking for the API version that the service names: podman
4.3 (Debian 12) and 5.4 (Debian 13) are both in use.
"""

import http.client
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import quote

from bootc_build.onhost.errors import UsageError, UserError
from bootc_build.onhost.process import CommandError, CommandTimeoutError, running

_START_SECONDS = 20.0
_ANSWER_SECONDS = 120.0
_LOOK_AGAIN_SECONDS = 0.01
_BOOTC_LABELS = ("containers.bootc", "ostree.bootable")


class ImageNotFoundError(UserError):
    """No image of that name or id is in local containers-storage."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Image '{name}' is not in local storage.",
            f"Pull it with: podman pull {name}\n"
            f"Or build it with: bootc-build image -t {name} (a base with: bootc-build base -t {name})",
        )
        self.name = name


@dataclass(frozen=True)
class HistoryStep:
    """One line of an image's history, oldest first; the Containerfile instruction that made a layer."""

    created_by: str
    created: datetime | None
    empty_layer: bool


@dataclass(frozen=True)
class LocalImage:
    """What containers-storage knows of one image.

    Attributes:
        id: hex digest of the image's configuration.
        digest: ``sha256:…`` of the manifest as it is in storage.
        names: its tags, fully qualified ("localhost/os:v1"); empty for an image without a name.
        labels: the labels of its configuration.
        architecture: in the OCI's words ("amd64", "arm64").
        size_bytes: uncompressed size of all layers.
        created: when it was built.
        layers: diff_ids, lowest first.
        history: the steps that made it, oldest first.
        layer_folders: what each layer changed, as directories on this machine, lowest first; empty
            where the storage driver keeps none. Reading them takes the storage owner's rights.
    """

    id: str
    digest: str
    names: tuple[str, ...]
    labels: Mapping[str, str]
    architecture: str
    size_bytes: int
    created: datetime
    layers: tuple[str, ...]
    history: tuple[HistoryStep, ...]
    layer_folders: tuple[Path, ...] = ()

    @property
    def is_bootc(self) -> bool:
        """Whether its labels call it a bootable image (``containers.bootc`` or ``ostree.bootable``)."""
        return any(self.labels.get(name, "") not in ("", "0", "false") for name in _BOOTC_LABELS)

    @property
    def version(self) -> str | None:
        """The version that its labels give, if they do."""
        return self.labels.get("org.opencontainers.image.version") or self.labels.get("version")

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Self:
        """The record for one answer of podman's ``/libpod/images/NAME/json``."""
        config = document.get("Config") or {}
        return cls(
            id=document["Id"].removeprefix("sha256:"),
            digest=document["Digest"],
            names=tuple(document.get("RepoTags") or ()),
            labels=dict(document.get("Labels") or config.get("Labels") or {}),
            architecture=document["Architecture"],
            size_bytes=int(document.get("Size") or document.get("VirtualSize") or 0),
            created=datetime.fromisoformat(document["Created"]),
            layers=tuple((document.get("RootFS") or {}).get("Layers") or ()),
            history=tuple(
                HistoryStep(
                    step.get("created_by", ""),
                    datetime.fromisoformat(step["created"]) if step.get("created") else None,
                    bool(step.get("empty_layer")),
                )
                for step in document.get("History") or ()
            ),
            layer_folders=_layer_folders(document.get("GraphDriver") or {}),
        )


def _layer_folders(driver: Mapping[str, Any]) -> tuple[Path, ...]:
    data = driver.get("Data") or {}
    if driver.get("Name") != "overlay" or "UpperDir" not in data:
        return ()
    # overlay names the upper layer first.
    lower = [folder for folder in data.get("LowerDir", "").split(":") if folder]
    return tuple(Path(folder) for folder in (*reversed(lower), data["UpperDir"]))


def _require_name(name: str) -> None:
    # It becomes a part of a path, which podman's service would shorten: "." would ask for the list of images.
    if any(part in {"", ".", ".."} for part in name.split("/")):
        raise UsageError(
            f"'{name}' is not the name of an image.",
            "Is a variable of the shell empty? What is there is shown by: podman images",
        )


class ImageStore:
    """Local containers-storage as podman sees it; made by :func:`image_store`.

    Nothing runs until the first question is asked.
    """

    def __init__(self, cleanup: ExitStack) -> None:
        self._cleanup = cleanup
        self._client: Any = None

    def exists(self, name: str) -> bool:
        """Whether an image of that name or id is there.

        Raises:
            UsageError: no image has such a name.
        """
        _require_name(name)
        return bool(self._images().exists(name))

    def get(self, name: str) -> LocalImage:
        """The image of that name or id ("os:v2", "localhost/os:v2", a hex id).

        Raises:
            ImageNotFoundError: it is not there.
            UsageError: no image has such a name.
        """
        _require_name(name)
        with _explained(name):
            return LocalImage.parse(self._images().get(name).attrs)

    def tag(self, image: str, name: str) -> None:
        """Give an image one more name; an image that had the name loses it.

        Args:
            image: name or id.
            name: "REPOSITORY[:TAG]", "latest" without a tag; a bare name gets "localhost/" before it.

        Raises:
            ImageNotFoundError: there is no such image.
        """
        repository, tag = split_tag(name)
        with _explained(image):
            self._images().get(image).tag(repository, tag)

    def remove(self, name: str) -> None:
        """Take a name off an image, and remove the image when that was its last name.

        Raises:
            ImageNotFoundError: there is no such image.
            UserError: a container still uses it.
        """
        with _explained(name):
            # podman-py puts this one into the URL as it is.
            self._images().remove(quote(name, safe=""))

    def _images(self) -> Any:  # noqa: ANN401 - podman-py is untyped
        if self._client is None:
            import podman  # noqa: PLC0415 - a quarter of a second, only for those who ask

            address, version = self._cleanup.enter_context(_service())
            self._client = self._cleanup.enter_context(
                podman.PodmanClient(
                    base_url=f"http+unix://{address}", version=version, timeout=_ANSWER_SECONDS
                )
            )
        return self._client.images


@contextmanager
def image_store() -> Iterator[ImageStore]:
    """Local containers-storage, for the length of the ``with`` block."""
    with ExitStack() as cleanup:
        yield ImageStore(cleanup)


def split_tag(name: str) -> tuple[str, str]:
    """``("localhost/os", "v1")`` of "localhost/os:v1"; the tag is "latest" when there is none.

    A colon before the last slash belongs to a registry's port ("host:5000/os").
    """
    head, colon, last = name.rpartition(":")
    if not colon or "/" in last:
        return _qualified(name), "latest"
    return _qualified(head), last


def _qualified(repository: str) -> str:
    # As podman and buildah do for a name that they are given to write.
    first, slash, _ = repository.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return repository
    return f"localhost/{repository}"


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn podman-py's errors about one image into ours."""
    from podman import errors  # noqa: PLC0415 - see ImageStore._images

    try:
        yield
    except errors.ImageNotFound as exc:
        raise ImageNotFoundError(name) from exc
    except errors.APIError as exc:
        raise UserError(
            f"podman refused what was asked of image '{name}': {exc.explanation or exc}"
        ) from exc


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


@contextmanager
def _service() -> Iterator[tuple[Path, str]]:
    """A private ``podman system service``: the path of its socket and the version of its API."""
    with tempfile.TemporaryDirectory(prefix="bootc-build-podman-") as folder:
        address = Path(folder, "socket")
        argv = ["podman", "system", "service", "--time", "0", f"unix://{address}"]
        with tempfile.TemporaryFile() as said, running(argv, stdout=said, stderr=said) as service:
            _wait_until_it_listens(service, address, argv, said)
            yield address, _api_version(address)


def _wait_until_it_listens(
    service: subprocess.Popen[bytes], address: Path, argv: Sequence[str], said: IO[bytes]
) -> None:
    for _ in range(int(_START_SECONDS / _LOOK_AGAIN_SECONDS)):
        if address.exists() and _listens(address):
            return
        try:
            status = service.wait(_LOOK_AGAIN_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        said.seek(0)
        raise CommandError(argv, status, said.read().decode(errors="backslashreplace"))
    raise CommandTimeoutError(argv, _START_SECONDS)


def _listens(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(address))
        except OSError:
            return False
        return True


def _api_version(address: Path) -> str:
    connection = _UnixConnection(address)
    try:
        connection.request("GET", "/_ping")
        answer = connection.getresponse()
        answer.read()
        return answer.getheader("Libpod-API-Version", "4.0.0")
    finally:
        connection.close()
