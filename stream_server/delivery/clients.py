"""Count the connected clients, and send all of them their heartbeat."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.clock import Clock
from stream_server.delivery.hub import Hub
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.pacing import SLOW_PONG_S
from stream_server.delivery.rounds import WRITES_A_TURN
from stream_server.wire import messages
from stream_server.wire.messages import Wire
from stream_server.wire.refusals import NO_PONG, SHUTTING_DOWN, UNAUTHORISED

PONG_WITHIN_S = 10.0
SSE_HEARTBEAT_S = 15.0
LATE_S = 1.0
"""A turn of the heartbeat this late means that our process stood still, not the clients."""
REFUSALS_WITH_A_CODE = 100
"""A browser cannot read the status of a refused upgrade, so this many clients above the limit get a close code."""


@dataclass(slots=True, eq=False)
class Client:
    """One connection; `pinged_at` is when an unanswered ping went out, `expires_at` when its token's time is over."""

    outbox: Outbox
    address: str = ""
    expires_at: float | None = None
    pinged_at: float | None = None


@dataclass(slots=True)
class Clients:
    """Every WebSocket and SSE connection of this process."""

    hub: Hub
    clock: Clock
    rng: random.Random
    limit: int
    heartbeat_s: float
    per_address: int = 0
    """Number of connections that one address may have; 0 for no limit."""
    connected: dict[Client, None] = field(default_factory=dict)
    by_address: dict[str, int] = field(default_factory=dict)
    refusing: int = 0
    accepted: int = 0
    refused: int = 0
    counts: dict[str, int] = field(default_factory=lambda: {"websocket": 0, "sse": 0})
    ended: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    """By transport, and by the close code that we ended it with; None where the client left by itself."""
    gone_by: float | None = None
    """When the last client is cut off, once all are dismissed; in monotonic seconds."""

    def full(self) -> bool:
        """Return whether no further client may be served."""
        return len(self.connected) >= self.limit

    def full_for(self, address: str) -> bool:
        """Return whether this address may have no further connection."""
        return bool(address) and 0 < self.per_address <= self.by_address.get(address, 0)

    def turn_away(self) -> None:
        """Count a connection that was refused."""
        self.refused += 1

    def join(self, outbox: Outbox, address: str = "", expires_in_s: float | None = None) -> Client:
        """Count a connection in."""
        expires_at = None if expires_in_s is None else self.clock.now() + expires_in_s
        client = Client(outbox, address if self.per_address else "", expires_at)  # an empty address is not counted
        self.connected[client] = None
        self.counts[outbox.wire.transport] += 1
        if client.address:
            self.by_address[address] = self.by_address.get(address, 0) + 1
        self.accepted += 1
        return client

    def leave(self, client: Client) -> None:
        """Count a connection out, and forget what its client wanted. Safe to call twice."""
        if client in self.connected:
            del self.connected[client]
            transport = client.outbox.wire.transport
            self.counts[transport] -= 1
            self.ended[transport, client.outbox.ended_with] += 1
            if client.address:
                self._count_out(client.address)
        self.hub.members.leave(client.outbox)

    def _count_out(self, address: str) -> None:
        self.by_address[address] -= 1
        if not self.by_address[address]:
            del self.by_address[address]

    def answered(self, client: Client) -> bool:
        """Take a pong; return False if no ping had asked for it.

        A pong that took long shows that the client reads old values.
        """
        asked = client.pinged_at is not None or client.outbox.pacer.is_waiting
        if client.pinged_at is not None:
            if self.clock.now() - client.pinged_at > SLOW_PONG_S:
                self.hub.members.pace(client.outbox)
            client.pinged_at = None
        self.hub.members.answered(client.outbox)
        return asked

    def begin_refusal(self) -> None:
        """Count a connection that is open only until its client has read why it is refused."""
        self.refusing += 1

    def end_refusal(self) -> None:
        """Count out a connection that was refused."""
        self.refusing -= 1

    def count(self) -> dict[str, int]:
        """Return the number of clients by transport."""
        return dict(self.counts)

    async def heartbeat(self) -> None:
        """Ping all WebSocket clients and comment to all SSE clients, forever; cut those that do not answer."""
        next_ping = self.clock.now() + self.heartbeat_s
        next_comment = self.clock.now() + SSE_HEARTBEAT_S
        turn_s = min(1.0, self.heartbeat_s / 4)
        while True:
            due = self.clock.now() + turn_s
            await self.clock.sleep(turn_s)
            now = self.clock.now()
            if now - due >= LATE_S:
                self._forgive(now - due)
            self._cut_the_silent(now)
            if now >= next_ping:
                next_ping = now + self.heartbeat_s
                await self._each_in_turn(self._ping)
            if now >= next_comment:
                next_comment = now + SSE_HEARTBEAT_S
                await self._each_in_turn(self._comment)

    async def _each_in_turn(self, act: Callable[[Client], None]) -> None:
        """Act on some hundred clients a turn of the loop: thousands of writes in one would hold up everything else."""
        for number, client in enumerate(list(self.connected), 1):
            # For a client that lags, taking the data is the answer, and STALL_S the time for it.
            if not client.outbox.lagging and not client.outbox.closed:
                act(client)
            if number % WRITES_A_TURN == 0:
                await asyncio.sleep(0)

    def _ping(self, client: Client) -> None:
        if client.outbox.wire.is_websocket and client.pinged_at is None:
            client.pinged_at = self.clock.now()
            self.hub.members.write(client.outbox, messages.PING)

    def _comment(self, client: Client) -> None:
        wire = client.outbox.wire
        if not wire.is_websocket:
            beat = messages.SSE_HEARTBEAT
            self.hub.members.write(client.outbox, messages.http_chunk(beat) if wire is Wire.SSE else beat)

    def _forgive(self, late_s: float) -> None:
        """Give clients as much more time for their pongs as our process stood still."""
        for client in self.connected:
            if client.pinged_at is not None:
                client.pinged_at += late_s

    def _cut_the_silent(self, now: float) -> None:
        for client in list(self.connected):
            if client.expires_at is not None and now >= client.expires_at and not client.outbox.closed:
                self.hub.members.close(client.outbox, UNAUTHORISED)
            if client.pinged_at is None:
                continue
            if client.outbox.lagging:
                client.pinged_at = now  # its ping may wait behind other bytes; STALL_S is its time to answer
            elif now - client.pinged_at >= PONG_WITHIN_S:
                client.pinged_at = None
                if not client.outbox.closed:
                    self.hub.members.close(client.outbox, NO_PONG)

    async def dismiss(self, within_s: float) -> None:
        """Send goodbyes in random order, each with its own time to come back, and wait until the clients have left.

        Abort the connections that are left after `within_s`.
        """
        deadline = self.gone_by = self.clock.now() + within_s
        everyone = list(self.connected)
        self.rng.shuffle(everyone)
        spread_ms = min(30_000, 1000 + 5 * len(everyone))
        for number, client in enumerate(everyone, 1):
            if not client.outbox.closed:
                self.hub.members.dismiss(client.outbox, SHUTTING_DOWN, self.rng.randrange(250, 250 + spread_ms))
            if number % WRITES_A_TURN == 0:
                await asyncio.sleep(0)
        while self.connected and self.clock.now() < deadline:  # noqa: ASYNC110 - they leave one by one
            await asyncio.sleep(0.02)
        for client in self.connected:
            client.outbox.pipe.abort()
