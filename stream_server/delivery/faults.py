"""Faults of one client's connection, kept from everybody else.

A transport may say that its peer has gone. Anything else that it raises is a fault of ours: the client is blamed where
that happens, and ended with 1011 once nothing is in the middle of being written.
"""

import logging
from collections.abc import Callable

from stream_server.delivery.outbox import Outbox

log = logging.getLogger(__name__)

GONE = (RuntimeError, OSError)
"""What a transport raises when its peer has gone in this very turn; it will say so itself."""


class Faults:
    """Clients whose connection has raised what none may raise."""

    def __init__(self, soon: Callable[[Callable[[], None]], None], end: Callable[[Outbox], None]) -> None:
        """`end` ends a client's connection; it is called `soon`, in a later turn of the loop."""
        self.soon = soon
        self.end = end
        self.count = 0
        self.blamed: dict[Outbox, None] = {}

    def blame(self, outbox: Outbox, error: Exception) -> None:
        """Let a client go because of what its connection has raised. That is one line in the log for each."""
        outbox.clogged()
        if outbox.closed or outbox in self.blamed:
            return
        self.blamed[outbox] = None
        self.count += 1
        log.error("delivery_fault", extra={"transport": outbox.wire.transport}, exc_info=error)
        self.soon(self.end_blamed)

    def end_blamed(self) -> None:
        """End everyone who was blamed."""
        blamed, self.blamed = self.blamed, {}
        for outbox in blamed:
            self.end(outbox)
