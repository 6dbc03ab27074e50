"""QEMU's monitor: `qemu.qmp` (asyncio) behind a plain synchronous interface.

One thread runs the event loop for as long as the monitor is connected, so that events are noted as they come.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

from qemu.qmp import QMPClient
from qemu.qmp.error import QMPError

from bootc_build.vm.errors import MachineError
from bootc_build.vm.record import MachineRecord

_CLOSE_SECONDS = 5.0


class Monitor:
    """A connected QMP monitor; a context manager that disconnects at the end.

    Args:
        connection: the host's end of the socket that QEMU has as its monitor; closed with the monitor.
        record: gets every command, answer and event.

    Attributes:
        events: all that came.
        listeners: called with each event, on the monitor's own thread; they must not give commands.
    """

    def __init__(self, connection: socket.socket, record: MachineRecord | None = None) -> None:
        self._connection = connection
        self._record = record
        self._client = QMPClient("bootc-build")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._listener: asyncio.Task[None] | None = None
        self.events: list[dict[str, Any]] = []
        self.listeners: list[Callable[[dict[str, Any]], None]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        with suppress(Exception):  # QEMU may be gone already; the loop has to end all the same.
            self._wait(self._disconnect(), _CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECONDS)
        self._loop.close()
        self._connection.close()

    def connect(self, seconds: float) -> None:
        """Wait for QEMU's greeting and negotiate.

        Raises:
            MachineError: it did not come in time, or QEMU ended.
        """
        try:
            self._wait(self._connect(), seconds)
        except (QMPError, TimeoutError, EOFError, OSError) as error:
            raise MachineError(f"QEMU's monitor does not answer: {error!r}.") from error

    def execute(self, command: str, *, seconds: float = 30.0, **arguments: object) -> Any:  # noqa: ANN401 - JSON
        """Give a command and return its answer.

        Args:
            command: its QMP name.
            seconds: how long the answer may take.
            **arguments: its arguments, `_` in a name standing for `-`.

        Raises:
            MachineError: QEMU refused it, did not answer, or is gone.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._note("command", {"execute": command, "arguments": named})
        try:
            answer = self._wait(self._client.execute(command, named), seconds)
        except (QMPError, TimeoutError, OSError) as error:
            self._note("refusal", repr(error))
            raise MachineError(f"QEMU's monitor refused '{command}': {error!r}.") from error
        self._note("answer", answer)
        return answer

    def human(self, line: str) -> str:
        """Give a line to the human monitor and return what it prints."""
        return str(self.execute("human-monitor-command", command_line=line))

    def shutdown_reason(self) -> str | None:
        """Why the guest went down ("guest-reset", "guest-shutdown", "host-qmp-quit", …), once it has."""
        for event in reversed(self.events):
            if event.get("event") == "SHUTDOWN":
                return str(event.get("data", {}).get("reason"))
        return None

    def _note(self, kind: str, content: object) -> None:
        if self._record is not None:
            self._record.monitor(kind, content)

    def _wait(self, work: Coroutine[Any, Any, Any], seconds: float) -> Any:  # noqa: ANN401 - whatever it gives
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), self._loop)
        return future.result(seconds + _CLOSE_SECONDS)

    async def _connect(self) -> None:
        await self._client.connect(self._connection)
        self._listener = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for event in self._client.events:
            self.events.append(dict(event))
            self._note("event", dict(event))
            for listener in tuple(self.listeners):
                listener(dict(event))

    async def _disconnect(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
        await self._client.disconnect()
