"""A real registry (Debian's `docker-registry`) on this machine's loopback address, reachable by guests."""

import json
import re
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from bootc_build.onhost.errors import UserError
from bootc_build.onhost.process import find_program, running
from bootc_build.tools.buildah import push
from bootc_build.tools.cache import scratch_folder
from bootc_build.vm.waiting import wait_until

_START_SECONDS = 60.0
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
# The host, as guests on QEMU's user-mode network see it.
_HOST_FOR_GUESTS = "10.0.2.2"
_TAIL_BYTES = 2000


class Registry:
    """A registry that speaks plain HTTP on a free port; a context manager that keeps nothing.

    Args:
        folder: where its private folder is made, which holds the images that are pushed; by default
            $TMPDIR or /var/tmp.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._parent_folder = folder or scratch_folder()
        self._stack = ExitStack()
        self.port = 0

    def __enter__(self) -> Self:
        find_program("docker-registry")
        with ExitStack() as stack:
            private = tempfile.TemporaryDirectory(
                prefix="bootc-build-registry-", dir=self._parent_folder
            )
            folder = Path(stack.enter_context(private))
            config, log = folder / "config.json", folder / "log"
            config.write_text(json.dumps(_configuration(folder)))
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
            self.port = int(found[1])
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

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

    def guest_configuration(self, prefix: str | None = None) -> str:
        """For a file in the guest's /etc/containers/registries.conf.d: this registry has no TLS.

        Args:
            prefix: names that begin with it are looked for here; by default this registry's own address.
        """
        return (
            f'[[registry]]\nprefix = "{prefix or self.guest_address}"\n'
            f'location = "{self.guest_address}"\ninsecure = true\n'
        )

    def push(self, image: str, name: str) -> str:
        """Push an image of local storage.

        Args:
            image: its name or id.
            name: "NAME[:TAG]" in this registry.

        Returns:
            The digest of the manifest as the registry has it.

        Raises:
            CommandError: there is no such image, or no space.
        """
        return push(image, f"docker://{self.address}/{name}", fast=True, tls_verify=False)


def _configuration(folder: Path) -> dict[str, object]:
    return {
        "version": "0.1",
        "log": {"level": "info"},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "storage")},
            "delete": {"enabled": True},
        },
        "http": {"addr": "127.0.0.1:0"},
    }
