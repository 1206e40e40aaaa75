"""A link between two programs that can be cut, slowed and damaged: a TCP proxy on loopback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

_CHUNK = 1 << 16


class Link:
    """Passes bytes to a port on loopback, as well as it is told to.

    Args:
        target: The port behind it.

    Attributes:
        port: Where it listens.
        delay: Seconds that every piece of data is held back.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._open: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self._damage = {True: 0, False: 0}
        self.delay = 0.0
        self._thread.start()
        self._server: asyncio.Server = self._call(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        self._is_cut = True
        self._call(self._drop())

    def mend(self) -> None:
        """Let connections through again, at full speed."""
        self._is_cut, self.delay = False, 0.0

    def damage(self, pieces: int = 1, upward: bool = True) -> None:
        """Turn over a byte in each of the next ``pieces`` pieces of data to the target, or back."""
        self._damage[upward] = pieces

    def close(self) -> None:
        """End the link."""
        self.cut()
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10.0)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._connect, "127.0.0.1", 0)

    async def _drop(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _connect(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        if self._is_cut:
            back.transport.abort()
            return
        try:
            there, forth = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            back.transport.abort()
            return
        self._open |= {back, forth}
        await asyncio.gather(self._pass(here, forth, True), self._pass(there, back, False))
        self._open -= {back, forth}

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upward: bool
    ) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(_CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(self._damaged(data, upward))
                await writer.drain()
        writer.transport.abort()

    def _damaged(self, data: bytes, upward: bool) -> bytes:
        if not self._damage[upward]:
            return data
        self._damage[upward] -= 1
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
