"""Faults of one client's connection, kept from everybody else.

A transport may raise that its peer has gone. Any other exception is a fault of ours: the client is blamed at once, and
its connection is closed with 1011 in a later turn of the loop, when no write is half done.
"""

import logging
from collections.abc import Callable
from types import TracebackType

from stream_server.delivery.outbox import Outbox

log = logging.getLogger(__name__)

GONE = (RuntimeError, OSError)
"""What a transport raises when its peer has gone in this very turn; it will report the loss itself."""


class Faults:
    """The clients whose connection has raised what it may not raise."""

    def __init__(self, soon: Callable[[Callable[[], None]], None], end: Callable[[Outbox], None]) -> None:
        """`end` closes a client's connection; it is called `soon`, in a later turn of the loop."""
        self.soon = soon
        self.end = end
        self.count = 0
        self.blamed: dict[Outbox, None] = {}

    def contained(self, outbox: Outbox) -> "Containment":
        """Return a context in which an exception costs this client its connection, and nobody else anything."""
        return Containment(self, outbox)

    def blame(self, outbox: Outbox, error: Exception) -> None:
        """Close a client's connection soon, because of what it has raised. Log each client once."""
        outbox.clogged()
        if outbox.closed or outbox in self.blamed:
            return
        self.blamed[outbox] = None
        self.count += 1
        log.error("delivery_fault", extra={"transport": outbox.wire.transport}, exc_info=error)
        self.soon(self.end_blamed)

    def end_blamed(self) -> None:
        """Close the connections of all clients that were blamed."""
        blamed, self.blamed = self.blamed, {}
        for outbox in blamed:
            self.end(outbox)


class Containment:
    """A `with` block whose exceptions are blamed on one client."""

    __slots__ = ("faults", "outbox")

    def __init__(self, faults: Faults, outbox: Outbox) -> None:
        self.faults = faults
        self.outbox = outbox

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        """Blame the client, and go on after the block; KeyboardInterrupt and its like pass through."""
        if not isinstance(error, Exception):
            return False
        self.faults.blame(self.outbox, error)
        return True
