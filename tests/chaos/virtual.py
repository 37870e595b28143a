"""An event loop with virtual time, which jumps to the next timer when there is nothing else to do.

Every timer of the program and its libraries fires in order without waiting, while real loopback sockets keep working:
bytes that were written are read before time moves on. An hour takes as long as the work in it.
"""

import asyncio
import selectors
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")

TURN_S = 1e-6
"""Virtual time of one turn of the loop: a wait shorter than a float can represent would never end without it."""
FENCES = 3
"""So many bytes follow all others through the kernel before virtual time jumps: a handshake takes three packets."""


class _VirtualSelector(selectors.DefaultSelector):
    """Poll for I/O without waiting; when there is none, advance the clock instead."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 1000.0
        self.threads = 0
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._near = socket.create_connection(server.getsockname())
            self._far, _ = server.accept()
        self._near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.seconds += TURN_S
        if timeout is not None and timeout <= 0:
            return super().select(0)
        if self.threads or timeout is None:
            return super().select(timeout if timeout is None else 0.001)  # a thread is at work
        for _ in range(FENCES):
            if ready := super().select(0):
                return ready
            self._wait_for_the_kernel()
        ready = super().select(0)
        if not ready:
            self.seconds += timeout
        return ready

    def _wait_for_the_kernel(self) -> None:
        """Send a byte to ourselves and wait for it: under load the kernel carries packets late, but in their order."""
        self._near.send(b".")
        self._far.recv(1)

    def close(self) -> None:
        super().close()
        self._near.close()
        self._far.close()


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time."""

    def __init__(self) -> None:
        self.virtual_selector = _VirtualSelector()
        super().__init__(self.virtual_selector)

    def _make_socket_transport(self, sock: socket.socket, *arguments: Any, **options: Any) -> Any:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_CONGESTION"):
            # Others, such as BBR, spread bytes over real time, in which virtual time would jump on.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        return super()._make_socket_transport(sock, *arguments, **options)  # type: ignore[misc]

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.virtual_selector.seconds

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run in a thread; virtual time stands still until it is done."""
        self.virtual_selector.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: object) -> None:
        self.virtual_selector.threads -= 1


class VirtualClock:
    """A `Clock` on the running loop's time; its wall time starts at `start_ms`."""

    def __init__(self, start_ms: int) -> None:
        self.start_ms = start_ms
        self.began = asyncio.get_running_loop().time()

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_ms(self) -> int:
        return self.start_ms + round((self.now() - self.began) * 1000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a program to its end on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
