"""Stands between a client of AWS and moto's server: notes what is asked, and fails when it is told to."""

import http.client
import json
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs

_BLOCK = re.compile(r"/snapshots/(?P<snapshot>[^/]+)/blocks/(?P<index>[0-9]+)")
_HOP = {"connection", "transfer-encoding", "content-length", "date", "server"}


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        action: "RegisterImage", "PutSnapshotBlock" and so on.
        arguments: of a call with a form, flat.
        block: number of the block, for PutSnapshotBlock.
        headers: of the request, lower case.
        body: as it was sent.
        status: what was answered; None when nothing was.
    """

    action: str
    arguments: dict[str, str] = field(default_factory=dict)
    block: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    status: int | None = None


@dataclass
class Fault:
    """What happens to calls of an action.

    Attributes:
        action: which.
        kind: "refuse", "drop" (no answer, moto does not hear of it), "lose" (moto does, and the answer is lost),
            "hold" (no answer until the proxy ends; moto does not hear of it).
        times: how many calls, from the first on.
        after: so many pass before.
        code: AWS's name of the error of "refuse".
        happened: all of them came.
    """

    action: str
    kind: str
    times: int = 1
    after: int = 0
    code: str = "RequestThrottledException"
    seen: int = 0
    happened: threading.Event = field(default_factory=threading.Event)

    def takes(self) -> bool:
        """Whether the call that just came is one of them."""
        self.seen += 1
        return self.after < self.seen <= self.after + self.times


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that was killed is no news."""


class AwsProxy:
    """A context manager; requests go to a server of moto.

    Args:
        port: of moto's server on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.released = threading.Event()
        self._moto = port
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                proxy._serve(self)

            do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815 - http.server's names

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fail(self, action: str, kind: str, **more: Any) -> Fault:
        fault = Fault(action, kind, **more)
        self.faults.append(fault)
        return fault

    def of(self, action: str) -> list[Call]:
        """The calls of an action that were answered well."""
        return [
            call for call in self.calls if call.action == action and (call.status or 0) // 100 == 2
        ]

    def actions(self) -> list[str]:
        return [call.action for call in self.calls]

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        headers = {key.lower(): value for key, value in request.headers.items()}
        action, arguments, block = _parse(request.command, request.path, headers, body)
        with self._lock:
            fault = next((one for one in self.faults if one.action == action and one.takes()), None)
        status: int | None = None
        answer: Callable[[], None] | None = None
        if fault is not None and fault.kind == "refuse":
            status, answer = self._refusal(request, fault.code)
        elif fault is None or fault.kind == "lose":
            forwarded = self._forward(request, headers, body)
            if fault is None:
                status, answer = forwarded
        self.calls.append(Call(action, arguments, block, headers, body, status))
        if fault is not None:
            if fault.seen >= fault.after + fault.times:
                fault.happened.set()
            if fault.kind == "hold":
                self.released.wait()
        if answer is None:
            request.close_connection = True
            return
        with suppress(OSError):
            answer()

    def _forward(
        self, request: BaseHTTPRequestHandler, headers: dict[str, str], body: bytes
    ) -> tuple[int, Callable[[], None]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._moto, timeout=60)
        # moto knows service and region by the signature, which it does not check.
        connection.request(request.command, request.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        kept = [(k, v) for k, v in response.getheaders() if k.lower() not in _HOP]
        connection.close()
        return response.status, lambda: _answer(request, response.status, kept, content)

    @staticmethod
    def _refusal(request: BaseHTTPRequestHandler, code: str) -> tuple[int, Callable[[], None]]:
        if "/snapshots" in request.path:
            content = json.dumps({"Message": "refused by the test"}).encode()
            headers = [("x-amzn-ErrorType", code), ("Content-Type", "application/json")]
        else:
            content = (
                f"<Response><Errors><Error><Code>{code}</Code><Message>refused by the test</Message>"
                "</Error></Errors><RequestID>1</RequestID></Response>"
            ).encode()
            headers = [("Content-Type", "text/xml")]
        return 400, lambda: _answer(request, 400, headers, content)


def _answer(
    request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], content: bytes
) -> None:
    request.send_response(status)
    for key, value in headers:
        request.send_header(key, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


def _parse(
    method: str, path: str, headers: dict[str, str], body: bytes
) -> tuple[str, dict[str, str], int | None]:
    if found := _BLOCK.match(path):
        put = "PutSnapshotBlock" if method == "PUT" else "GetSnapshotBlock"
        return put, {"SnapshotId": found["snapshot"]}, int(found["index"])
    if path.startswith("/snapshots/completion"):
        return "CompleteSnapshot", {"SnapshotId": path.rpartition("/")[2]}, None
    if path == "/snapshots":
        return "StartSnapshot", json.loads(body), None
    if path.startswith("/snapshots"):
        return "ListSnapshotBlocks", {}, None
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
        action = form.get("Action", "")
        return action + ("(trial)" if form.get("DryRun") == "true" else ""), form, None
    return f"{method} {path}", {}, None
