"""Keep track of connections that have not shown what they are: those that are silent, and those that are refused."""

from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

SILENT_CUT_AT_ONCE = 16
REFUSED_WAITING = 32
"""Refused connections from which we read whether they are an EventSource; further ones are closed at once."""


class Silent(Protocol):
    """A connection that has not sent a byte."""

    since: float
    """When it was accepted, in seconds of the event loop."""

    def abort(self) -> None:
        """End the connection at once."""


@dataclass(slots=True)
class Newcomers:
    """Connections of this process between their acceptance and their first bytes."""

    silent: dict[Silent, None] = field(default_factory=dict)
    """The oldest first."""
    refused: int = 0
    """Connections that are refused and not yet closed."""

    def wait_for(self, connection: Silent) -> None:
        """Remember a connection until it sends something or ends."""
        self.silent[connection] = None

    def forget(self, connection: Silent) -> None:
        """Forget a connection that has sent something or ended."""
        self.silent.pop(connection, None)

    def cut_silent(self, since: float) -> None:
        """Abort some of the oldest connections that have been silent since this time or longer."""
        for connection in list(islice(self.silent, SILENT_CUT_AT_ONCE)):
            if connection.since <= since:
                connection.abort()

    def refuse(self) -> bool:
        """Count a refused connection. Return whether it may still show what it is."""
        self.refused += 1
        return self.refused <= REFUSED_WAITING

    def end_refusal(self) -> None:
        """Count out a refused connection that has ended."""
        self.refused -= 1
