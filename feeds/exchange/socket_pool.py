"""Distribute the wanted streams over as many sockets as the exchange's limit makes necessary."""

import asyncio
import random
from collections.abc import Callable

from feeds.exchange.link import SocketPolicy
from feeds.exchange.slices import SlicedWork, Work
from feeds.exchange.stream_socket import StreamSocket
from feeds.exchange.venue import Opened, Venue
from orchestrator.clock import Clock
from orchestrator.hosts import Hosts


class SocketPool:
    """The sockets of a feed, which run in the task group of `begin`. The first one brings the tickers.

    The callbacks are those of `StreamSocket`; `on_connection` is called with the socket's name first.
    """

    def __init__(
        self,
        venue: Venue,
        hosts: Hosts,
        clock: Clock,
        rng: random.Random,
        work: SlicedWork,
        on_frame: Callable[[Opened], Work],
        on_subscribed: Callable[[set[str]], None],
        is_lively: Callable[[str, float], bool],
        policy: SocketPolicy,
        on_change: Callable[[], None],
        on_connection: Callable[[str, str, str | None], None],
    ) -> None:
        self.venue = venue
        self.hosts = hosts
        self.clock = clock
        self.rng = rng
        self.work = work
        self.on_frame = on_frame
        self.on_subscribed = on_subscribed
        self.is_lively = is_lively
        self.policy = policy
        self.on_change = on_change
        self.on_connection = on_connection
        self.sockets: list[StreamSocket] = []
        self.group: asyncio.TaskGroup | None = None

    @property
    def first(self) -> StreamSocket | None:
        """The socket of the tickers; None before the feed runs."""
        return self.sockets[0] if self.sockets else None

    def begin(self, group: asyncio.TaskGroup) -> None:
        """Start with new sockets, in a task group."""
        self.sockets.clear()
        self.group = group

    def end(self) -> None:
        """Open no more sockets: the task group ends."""
        self.group = None

    def want(self, stream: str) -> StreamSocket | None:
        """Bring a stream from now on. Returns its socket, None while the feed does not run."""
        if self.group is None:
            return None
        socket = self._socket_for(stream, self.group)
        socket.want(stream)
        return socket

    def drop(self, stream: str) -> None:
        """Bring a stream no longer."""
        for socket in self.sockets:
            socket.drop(stream)

    def _socket_for(self, stream: str, group: asyncio.TaskGroup) -> StreamSocket:
        for socket in self.sockets:
            if stream in socket.wanted:
                return socket
        for socket in self.sockets:
            if len(socket.wanted | socket.active) < self.venue.streams.streams_per_connection:
                return socket
        return self._open(group)

    def _open(self, group: asyncio.TaskGroup) -> StreamSocket:
        name = f"{self.venue.name}-{len(self.sockets) + 1}"
        socket = StreamSocket(
            name,
            self.venue,
            self.hosts,
            self.clock,
            self.rng,
            self.work,
            self.on_frame,
            self.on_subscribed,
            self.is_lively,
            self.policy,
            self.on_change,
            lambda host, cause: self.on_connection(name, host, cause),
        )
        self.sockets.append(socket)
        group.create_task(socket.run(), name=name)
        return socket
