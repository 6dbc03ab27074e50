"""EC2's instance metadata service, version 2 only, for one machine in QEMU.

Source: the EC2 user guide, "Access instance metadata for an EC2 instance": a token by PUT with its lifetime in a
header, and every GET with the token. QEMU's user-mode network leads 169.254.169.254 to it.
"""

import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from uuid import UUID, uuid4

ADDRESS = "169.254.169.254"
# The network of EC2's default VPC, in a range that holds the metadata service's address as well.
_NETWORK = ("net=160.0.0.0/4", "host=172.31.0.1", "dns=172.31.0.2", "dhcpstart=172.31.0.15")
GUEST_ADDRESS = "172.31.0.15"
_TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105 - its name
_LIFETIME_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
_NOT_FOUND, _UNAUTHORIZED, _BAD_REQUEST, _OK = 404, 401, 400, 200


@dataclass(frozen=True)
class MetadataRequest:
    """One request: method, path, the answer's status, and whether it had a token that was given out."""

    method: str
    path: str
    status: int
    has_token: bool


class InstanceMetadata:
    """A context manager.

    Args:
        mac: of the machine's network card.
        key: the public key that the instance was started with.

    Attributes:
        requests: what was asked.
        instance_id: EC2's name of the machine.
    """

    def __init__(self, mac: str, key: str) -> None:
        self.requests: list[MetadataRequest] = []
        self.instance_id = "i-0123456789abcdef0"
        self._uuid = UUID(f"ec2{uuid4().hex[3:]}")
        self._tokens: set[str] = set()
        self._files = _files(self._tree(mac, key))
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                service._put(self)

            def do_GET(self) -> None:
                service._get(self)

            def log_message(self, *_: Any) -> None:  # noqa: ANN401 - http.server's
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def network_options(self) -> tuple[str, ...]:
        """What QEMU's user-mode network needs to lead there."""
        port = self._server.server_address[1]
        return (*_NETWORK, f"guestfwd=tcp:{ADDRESS}:80-cmd:busybox nc 127.0.0.1 {port}")

    @property
    def qemu_arguments(self) -> tuple[str, ...]:
        """What makes a machine look like EC2's."""
        vendor = "Amazon EC2"
        system = (
            f"type=1,manufacturer={vendor},product=m7i.large,uuid={self._uuid},serial={self._uuid}"
        )
        return ("-smbios", f"type=0,vendor={vendor}", "-smbios", system)

    def _tree(self, mac: str, key: str) -> Mapping[str, Any]:
        interface = {
            "device-number": "0",
            "interface-id": "eni-0123456789abcdef0",
            "local-hostname": "ip-172-31-0-15.eu-central-1.compute.internal",
            "local-ipv4s": GUEST_ADDRESS,
            "mac": mac,
            "subnet-ipv4-cidr-block": "172.31.0.0/20",
        }
        document = {
            "instanceId": self.instance_id,
            "region": "eu-central-1",
            "version": "2017-09-30",
        }
        return {
            "meta-data": {
                "ami-id": "ami-0123456789abcdef0",
                "instance-id": self.instance_id,
                "instance-type": "m7i.large",
                "hostname": "ip-172-31-0-15.eu-central-1.compute.internal",
                "local-hostname": "ip-172-31-0-15.eu-central-1.compute.internal",
                "local-ipv4": GUEST_ADDRESS,
                "mac": mac,
                "network": {"interfaces": {"macs": {mac: interface}}},
                "placement": {"availability-zone": "eu-central-1a", "region": "eu-central-1"},
                "public-keys": {"0": {"openssh-key": key}},
            },
            "dynamic": {"instance-identity": {"document": json.dumps(document)}},
        }

    def _put(self, request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers.get("Content-Length") or 0))
        lifetime = request.headers.get(_LIFETIME_HEADER, "")
        if request.path == "/latest/api/token" and lifetime.isdecimal():
            token = secrets.token_urlsafe(32)
            self._tokens.add(token)
            self._answer(request, _OK, token, {_LIFETIME_HEADER: lifetime})
        else:
            self._answer(request, _BAD_REQUEST, "")

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        # "/VERSION/meta-data/…"; every version has the same here.
        path = "/".join(request.path.strip("/").split("/")[1:])
        if request.headers.get(_TOKEN_HEADER) not in self._tokens:
            self._answer(request, _UNAUTHORIZED, "")
        elif path in self._files:
            self._answer(request, _OK, self._files[path])
        else:
            self._answer(request, _NOT_FOUND, "")

    def _answer(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        text: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        has_token = request.headers.get(_TOKEN_HEADER) in self._tokens
        self.requests.append(MetadataRequest(request.command, request.path, status, has_token))
        content = text.encode()
        request.send_response(status)
        for key, value in (headers or {}).items():
            request.send_header(key, value)
        request.send_header("Content-Type", "text/plain")
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


def _files(tree: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Path -> text, the listings of folders included: "name/" for folders, "0=key" below public-keys."""
    found = {}
    lines = []
    for name, content in tree.items():
        below = f"{path}/{name}".strip("/")
        if isinstance(content, str):
            found[below] = content
            lines.append(name)
        else:
            found |= _files(content, below)
            lines.append(f"{name}=the-key" if path.endswith("public-keys") else f"{name}/")
    return {path: "\n".join(lines), **found}
