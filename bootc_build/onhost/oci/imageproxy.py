"""Speak to ``skopeo experimental-image-proxy``: manifests, configurations and blobs without a spool.

One JSON message per packet of a SOCK_SEQPACKET socket, data through pipes whose reading end comes with the
reply. The proxy closes the writing end only when it handles ``FinishPipe``, so that request has to be sent
*before* the pipe is read to its end; its answer says whether size and digest were right. The proxy handles
one request after the other: while a blob streams it answers nothing else.

skopeo 1.9 (Debian 12) speaks protocol 0.2.3, skopeo 1.18 (Debian 13) 0.2.6; nothing newer than 0.2.3 is needed.
"""

import array
import fcntl
import json
import os
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.oci.fetch_errors import FetchError, StalledError, explain
from bootc_build.onhost.oci.manifest import (
    Descriptor,
    ImageConfig,
    ImageManifest,
    parse_config,
    parse_manifest,
)
from bootc_build.onhost.oci.policy import check_enforced, policy_arguments
from bootc_build.onhost.oci.reference import ImageReference
from bootc_build.onhost.process import running

AUTH_FILES: Final = (
    Path("/run/ostree/auth.json"),
    Path("/etc/ostree/auth.json"),
    Path("/usr/lib/ostree/auth.json"),
)
# How long an answer may take: longer than skopeo's own waiting for a registry that said 429 and Retry-After.
ANSWER_SECONDS: Final = 180
# Where skopeo by itself unpacks archives, which may be too large for memory; a folder of its own is made there.
LARGE_FILES: Final = Path("/var/tmp")  # noqa: S108
# A blob is stalled when this long passed in waiting for the next `_LEAST_BYTES` of it.
IDLE_SECONDS: Final = 60
_LEAST_BYTES: Final = 64 * 1024
_END_SECONDS: Final = 30
_MAX_MESSAGE = 64 * 1024
_PIPE_BYTES = 1024 * 1024


def find_auth_file() -> Path | None:
    """The file with registry credentials that applies on this host, if there is one."""
    named = os.environ.get("REGISTRY_AUTH_FILE")
    if named:
        return Path(named)
    return next((path for path in AUTH_FILES if path.exists()), None)


@dataclass(frozen=True)
class _Reply:
    value: object
    pipe_id: int
    fds: tuple[int, ...]


class BlobPipe:
    """The reading end of a blob; ends with an error when hardly anything arrives for ``IDLE_SECONDS``."""

    def __init__(self, fd: int, what: str) -> None:
        self.fd = fd
        self._what = what
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN | select.POLLHUP | select.POLLERR)
        self._waited = 0.0
        self._arrived = 0

    def read(self, size: int = _PIPE_BYTES) -> bytes:
        """At most ``size`` bytes; empty at the end.

        Raises:
            StalledError: the sender stalled, or trickles.
        """
        # Only waiting counts: a reader that is busy with what came does not make the sender slow.
        begun = time.monotonic()
        arrived = self._poll.poll(max(0.0, IDLE_SECONDS - self._waited) * 1000)
        self._waited += time.monotonic() - begun
        if not arrived:
            raise StalledError(
                f"{self._what}: hardly anything has arrived for {IDLE_SECONDS} seconds.",
                "Check the network and try again; layers that are complete are not fetched again.",
            )
        data = os.read(self.fd, size)
        self._arrived += len(data)
        if self._arrived >= _LEAST_BYTES:
            self._waited, self._arrived = 0.0, 0
        return data


class OpenedImage:
    """One image, open in a running proxy."""

    def __init__(self, link: "_Link", image: ImageReference) -> None:
        self.reference = image
        self._link = link
        self._id = link.call("OpenImage", image.skopeo).value

    def manifest(self) -> tuple[str, ImageManifest]:
        """Digest of the manifest as the source has it, and the manifest (as OCI knows it).

        Raises:
            UserError: the source fails, or the document is malformed.
        """
        reply = self._link.call("GetManifest", self._id)
        return str(reply.value), parse_manifest(self._small(reply))

    def config(self) -> ImageConfig:
        """The image's configuration.

        Raises:
            UserError: the source fails, or the document is malformed.
        """
        return parse_config(self._small(self._link.call("GetFullConfig", self._id)))

    def abort(self) -> None:
        """End the proxy at once, from any thread: whoever reads from it sees an end."""
        self._link.abort()

    def _small(self, reply: _Reply) -> bytes:
        with self._link.pipe(reply, self.reference.display) as pipe:
            return b"".join(iter(pipe.read, b""))

    @contextmanager
    def blob(self, layer: Descriptor, diff_id: str) -> Iterator[BlobPipe]:
        """A layer's bytes, as the source keeps them: usually compressed, see `decompress` for which way.

        Leaving the block without an error checks size and digest of what was sent.

        Args:
            layer: which one.
            diff_id: its digest when uncompressed; containers-storage knows it by that.

        Raises:
            UserError: the source fails, stalls, or sends something else.
        """
        digest, size = layer.digest, layer.size
        if self.reference.transport == "containers-storage" and digest != diff_id:
            # The storage keeps layers uncompressed, whatever the manifest says. Its size is found by asking.
            digest = diff_id
            size = self._stored_size(diff_id)
        reply = self._link.call("GetBlob", self._id, digest, size)
        with self._link.pipe(reply, f"{self.reference.display}, layer {layer.digest}") as pipe:
            yield pipe

    def _stored_size(self, diff_id: str) -> int:
        reply = self._link.call("GetBlob", self._id, diff_id, 0)
        for fd in reply.fds:
            os.close(fd)
        # The pipe was closed unread: the answer is an error by construction.
        with suppress(UserError):
            self._link.call("FinishPipe", reply.pipe_id)
        return reply.value if isinstance(reply.value, int) else 0


class _Link:
    """Requests and replies of one proxy."""

    def __init__(
        self,
        sock: socket.socket,
        image: ImageReference,
        log: IO[bytes],
        process: subprocess.Popen[bytes],
    ) -> None:
        self._sock = sock
        self._image = image
        self._log = log
        self._process = process
        sock.settimeout(ANSWER_SECONDS)

    def abort(self) -> None:
        self._process.kill()

    def call(self, method: str, *args: object) -> _Reply:
        self._send(method, *args)
        return self._receive()

    @contextmanager
    def pipe(self, reply: _Reply, what: str) -> Iterator[BlobPipe]:
        """The pipe of a reply; leaving it in peace asks the proxy whether all was right."""
        if not reply.fds:
            raise self._error("skopeo sent no pipe")
        for extra in reply.fds[1:]:
            os.close(extra)
        fd = reply.fds[0]
        with suppress(
            OSError
        ):  # fewer wake-ups; refused when the user's share of pipe memory is spent
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            self._send("FinishPipe", reply.pipe_id)
            yield BlobPipe(fd, what)
        except StalledError:
            # The proxy waits for what does not come, and would not answer either.
            os.close(fd)
            self.abort()
            raise
        except Exception as exc:
            os.close(fd)
            try:
                self._receive()
            except FetchError as answer:
                # When the source failed, what was made of its half answer matters to nobody. When the reader
                # stopped first, the proxy only complains of that.
                if "broken pipe" not in answer.fact:
                    raise answer from exc
            raise
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        self._receive()

    def _send(self, method: str, *args: object) -> None:
        try:
            self._sock.send(json.dumps({"method": method, "args": list(args)}).encode())
        except OSError as exc:
            raise self._error(f"skopeo has ended ({exc})") from exc

    def _receive(self) -> _Reply:
        try:
            data, ancillary, _flags, _address = self._sock.recvmsg(
                _MAX_MESSAGE, socket.CMSG_SPACE(8 * array.array("i").itemsize)
            )
        except TimeoutError as exc:
            self.abort()
            raise StalledError(
                f"'{self._image.display}' cannot be fetched: nothing was answered for {ANSWER_SECONDS} seconds.",
                "Check the network and try again; layers that are complete are not fetched again.",
            ) from exc
        except OSError as exc:
            raise self._error(f"skopeo has ended ({exc})") from exc
        if not data:
            raise self._error("skopeo has ended")
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        message = json.loads(data)
        if not message.get("success"):
            for fd in fds:
                os.close(fd)
            raise explain(self._image, str(message.get("error", "")), find_auth_file())
        return _Reply(message.get("value"), int(message.get("pipeid", 0)), tuple(fds))

    def _error(self, problem: str) -> FetchError:
        self._log.seek(0)
        said = self._log.read().decode(errors="backslashreplace").strip()
        return explain(self._image, said or problem, find_auth_file())


def _large_files() -> Path | None:
    return LARGE_FILES if os.access(LARGE_FILES, os.W_OK) else None


@contextmanager
def open_image(image: ImageReference) -> Iterator[OpenedImage]:
    """Start a proxy and open an image in it; both end with the block.

    Raises:
        MissingProgramError: skopeo is not installed.
        UserError: the image cannot be had; names it and what its source answered.
    """
    auth = find_auth_file()
    # Without a file of its own bootc asks anonymously: root's personal logins are not the host's.
    credentials = ["--authfile", str(auth)] if auth else ["--no-creds"]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with (
        ours,
        theirs,
        tempfile.TemporaryFile() as log,
        # What skopeo unpacks of an archive it leaves where it is, even when it ends in good order.
        tempfile.TemporaryDirectory(prefix="bootc-fetch-", dir=_large_files()) as scratch,
        running(
            [
                *("skopeo", f"--tmpdir={scratch}", *policy_arguments(image)),
                *("experimental-image-proxy", *credentials),
            ],
            stdin=theirs.fileno(),
            stderr=log,
        ) as process,
    ):
        theirs.close()
        link = _Link(ours, image, log, process)
        check_enforced(image, str(link.call("Initialize").value))
        yield OpenedImage(link, image)
        # No answer comes to this one: the process ends.
        with suppress(UserError):
            link.call("Shutdown")
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_SECONDS)
