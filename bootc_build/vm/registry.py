"""A real registry (Debian's `docker-registry`) on this machine's loopback address, reachable by guests.

Programs and guests speak to a proxy in front of it, which has TLS when it is wanted, keeps a log of all
requests and does to them what the test asks for; see `bootc_build.vm.registry_faults`. The registry itself
listens on a port of its own, where images are pushed.
"""

import json
import re
import ssl
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, Self

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import find_program, running
from bootc_build.tools.buildah import push
from bootc_build.tools.cache import scratch_folder
from bootc_build.tools.openssl import Certificate, issue_server_certificate, make_authority
from bootc_build.vm.guest import Guest
from bootc_build.vm.registry_credentials import Credentials
from bootc_build.vm.registry_faults import Faults
from bootc_build.vm.registry_log import Kind, RegistryRequest, RequestLog
from bootc_build.vm.registry_proxy import Contexts, RegistryProxy
from bootc_build.vm.waiting import wait_until

_START_SECONDS = 60.0
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
# The host, as guests on QEMU's user-mode network see it.
_HOST_FOR_GUESTS = "10.0.2.2"
_TAIL_BYTES = 2000
# What guests may call it whatever its port is, so that one disk serves any test: `configure` tells them.
GUEST_NAME = "registry.example"


class NamedImage(Protocol):
    """An image of local storage, such as `bootc_build.testing.Image`."""

    @property
    def name(self) -> str:
        """Its name or id."""


class Registry:
    """A registry on a free port; a context manager that keeps nothing.

    Args:
        folder: where its private folder is made, which holds the images that are pushed; by default
            $TMPDIR or /var/tmp.
        tls: speak TLS, with a certificate of an authority of its own; otherwise plain HTTP.
        auth: user and password that it asks for; by default anybody may do anything.

    Attributes:
        faults: what a test expects of the registry's clients, and does to them.
    """

    def __init__(
        self, folder: Path | None = None, *, tls: bool = False, auth: tuple[str, str] | None = None
    ) -> None:
        self._parent_folder = folder or scratch_folder()
        self._stack = ExitStack()
        self._credentials = Credentials(*auth) if auth else None
        self._tls = tls
        self._folder = Path()
        self._backend_port = 0
        self._proxy: RegistryProxy | None = None
        self._authority: Certificate | None = None
        self._log = RequestLog()
        self.faults = Faults(self._log)

    def __enter__(self) -> Self:
        find_program("docker-registry")
        with ExitStack() as stack:
            private = tempfile.TemporaryDirectory(
                prefix="bootc-build-registry-", dir=self._parent_folder
            )
            self._folder = Path(stack.enter_context(private))
            if self._credentials is not None:
                self._set_credentials(self._credentials)
            self._backend_port = self._start(stack)
            contexts = self._make_contexts() if self._tls else None
            proxy = RegistryProxy(self._backend_port, self.faults, self._log, contexts=contexts)
            if self._credentials is not None:
                proxy.authorization = self._credentials.authorization
            # After the proxy's end: what stalls then must not go on before it is cut.
            stack.callback(self.faults.clear)
            self._proxy = stack.enter_context(proxy)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    # Where it is.

    @property
    def port(self) -> int:
        """Where it listens; the same for this machine and for guests."""
        return self._proxy.port if self._proxy is not None else 0

    @property
    def address(self) -> str:
        """The "HOST:PORT" for programs on this machine."""
        return f"127.0.0.1:{self.port}"

    @property
    def guest_address(self) -> str:
        """The "HOST:PORT" for guests."""
        return f"{_HOST_FOR_GUESTS}:{self.port}"

    def guest_reference(self, name: str) -> str:
        """The image's reference as guests write it.

        Args:
            name: "NAME[:TAG]" in this registry.
        """
        return f"{self.guest_address}/{name}"

    # What its clients need.

    def guest_configuration(self, prefix: str | None = None) -> str:
        """For a file in the guest's /etc/containers/registries.conf.d: where the registry is.

        Without TLS it also allows that.

        Args:
            prefix: names that begin with it are looked for here; by default this registry's own address.
        """
        return self.configuration(self.guest_address, prefix)

    def configuration(self, address: str, prefix: str | None = None) -> str:
        """The same for any client.

        Args:
            address: how it reaches the registry.
            prefix: names that begin with it are looked for here; by default the address.
        """
        insecure = "" if self._tls else "insecure = true\n"
        return f'[[registry]]\nprefix = "{prefix or address}"\nlocation = "{address}"\n{insecure}'

    def guest_auth(self) -> str:
        """For the guest's /etc/ostree/auth.json: user and password.

        Raises:
            UserError: the registry asks for none.
        """
        return self.auth_json(self.guest_address)

    def auth_json(self, address: str) -> str:
        """The same for any client, which reaches the registry under this address.

        Raises:
            UserError: the registry asks for none.
        """
        if self._credentials is None:
            raise UserError("The registry asks for no password.", "Start it with auth=(…, …).")
        return self._credentials.auth_json([address])

    @property
    def has_tls(self) -> bool:
        """Whether it speaks TLS."""
        return self._tls

    @property
    def has_password(self) -> bool:
        """Whether it asks for user and password."""
        return self._credentials is not None

    @property
    def authority(self) -> Path:
        """The certificate of the authority that clients have to trust (PEM).

        Raises:
            UserError: the registry has no TLS.
        """
        if self._authority is None:
            raise UserError("The registry has no TLS.", "Start it with tls=True.")
        return self._authority.path

    def guest_files(self, prefix: str | None = None, *, auth: bool = True) -> dict[str, str]:
        """Path and text of each file that a guest needs to fetch from here.

        Args:
            prefix: names that begin with it are looked for here; by default this registry's own address.
            auth: with user and password, where the registry asks for them.
        """
        files = {
            "/etc/containers/registries.conf.d/bootc-build-test.conf": self.guest_configuration(
                prefix
            )
        }
        if self._authority is not None:
            trusted = f"/etc/containers/certs.d/{self.guest_address}/ca.crt"
            files[trusted] = self._authority.path.read_text()
        if auth and self._credentials is not None:
            files["/etc/ostree/auth.json"] = self.guest_auth()
        return files

    def configure(self, guest: Guest, prefix: str | None = None, *, auth: bool = True) -> None:
        """Write those files in a guest."""
        for path, text in self.guest_files(prefix, auth=auth).items():
            guest.succeed(f"mkdir -p {Path(path).parent}")
            guest.write(path, text)

    # What it has, and what it was asked.

    def push(self, image: str | NamedImage, name: str) -> str:
        """Push an image of local storage; no fault befalls it, and no log shows it.

        Args:
            image: its name or id, or an Image.
            name: "NAME[:TAG]" in this registry.

        Returns:
            The digest of the manifest as the registry has it.

        Raises:
            CommandError: there is no such image, or no space.
        """
        local = image if isinstance(image, str) else image.name
        backend = f"127.0.0.1:{self._backend_port}"
        auth_file = None
        if self._credentials is not None:
            auth_file = self._folder / "auth.json"
            auth_file.write_text(self.auth_json(backend))
        destination = f"docker://{backend}/{name}"
        return push(local, destination, fast=True, tls_verify=False, auth_file=auth_file)

    def change_password(self, password: str) -> None:
        """From now on only this password is good; what `guest_auth()` returned before is not.

        Raises:
            UserError: the registry asks for none.
        """
        if self._credentials is None:
            raise UserError("The registry asks for no password.", "Start it with auth=(…, …).")
        self._set_credentials(Credentials(self._credentials.user, password))

    def requests(
        self, kind: Kind | None = None, *, method: str | None = "GET"
    ) -> tuple[RegistryRequest, ...]:
        """What clients asked for, in the order in which they did.

        Args:
            kind: of this kind only, such as "layer".
            method: with this method only; None for any.
        """
        return self._log.requests(kind, method=method)

    def forget_requests(self) -> None:
        """Begin the log anew."""
        self._log.forget()

    def log_text(self) -> str:
        """The log, one line for each request."""
        return self._log.text()

    # Inside.

    def _start(self, stack: ExitStack) -> int:
        config, log = self._folder / "config.json", self._folder / "log"
        config.write_text(json.dumps(self._configuration()))
        file = stack.enter_context(log.open("wb"))
        process = stack.enter_context(
            running(["docker-registry", "serve", str(config)], stdout=file, stderr=file)
        )

        def has_begun() -> bool:
            return process.poll() is not None or _LISTENING.search(log.read_text()) is not None

        wait_until(has_begun, seconds=_START_SECONDS)
        found = _LISTENING.search(log.read_text())
        if found is None:
            raise UserError(f"docker-registry did not start:\n{log.read_text()[-_TAIL_BYTES:]}")
        return int(found[1])

    def _configuration(self) -> dict[str, object]:
        settings: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": str(self._folder / "storage")},
                "delete": {"enabled": True},
            },
            # Relative, because clients know another port than its own.
            "http": {"addr": "127.0.0.1:0", "relativeurls": True},
        }
        if self._credentials is not None:
            settings["auth"] = {"htpasswd": {"realm": "registry", "path": str(self._passwords)}}
        return settings

    @property
    def _passwords(self) -> Path:
        return self._folder / "htpasswd"

    def _set_credentials(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._passwords.write_text(credentials.htpasswd())
        if self._proxy is not None:
            self._proxy.authorization = credentials.authorization

    def _make_contexts(self) -> Contexts:
        folder = self._folder / "certificates"
        folder.mkdir()
        authority = make_authority(folder, "bootc-build test registry")
        self._authority = authority

        def context(label: str, *, expired: bool) -> ssl.SSLContext:
            certificate = issue_server_certificate(
                authority,
                folder,
                label,
                addresses=("127.0.0.1", _HOST_FOR_GUESTS),
                names=("localhost",),
                expired=expired,
            )
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            made.load_cert_chain(certificate.path, certificate.key)
            return made

        return Contexts(
            good=context("server", expired=False), expired=context("expired", expired=True)
        )
