"""The self-probe: every few seconds a value goes out as every event does, and is received as a client receives it.

It comes to our own listening socket over loopback, as a WebSocket client: accept, handshake, session, hub, group,
flush, outbox and socket all have their part in it. And it must not be seen. The door knows it by a word that is made
for one connection and never leaves this process; so it passes tokens and limits, is not among the clients, and what it
is sent is in no tally. Its value is a control message on a topic that no pattern means, that nobody can subscribe to
and that no feed is asked for: it takes no id, and nothing is remembered of it.
"""

import asyncio
import ipaddress
import json
import logging
import secrets
from collections.abc import Sequence

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from feeds import topics
from orchestrator.clock import Clock
from stream_server.access.tokens import Claims
from stream_server.delivery.hub import Hub
from stream_server.delivery.meters import ANSWER_BOUNDS_S, Histogram, Tally
from stream_server.delivery.outbox import Outbox
from stream_server.wire import messages

log = logging.getLogger(__name__)

WITHIN_S = 3.0
"""From the first packet to the value's receipt."""
FAILURES_TOLD = 3
"""In a row: one may be a moment's pause."""

PROBE = Claims("self-probe", topics=())
"""Who the door lets in by the word; it may not read anything."""


class Probe:
    """`failed` counts round trips that did not end well, `failing` those since the last that did."""

    def __init__(self, hub: Hub, clock: Clock, every_s: float) -> None:
        """`every_s` lies between two round trips; 0 for none."""
        self.hub = hub
        self.clock = clock
        self.every_s = every_s
        self.address: tuple[str, int] | None = None
        self.word: str | None = None
        self.outbox: Outbox | None = None
        self.took = Histogram(ANSWER_BOUNDS_S)
        self.last_s: float | None = None
        self.failed = 0
        self.failing = 0
        self.cause = ""

    async def run(self) -> None:
        """Probe for ever."""
        while True:
            await self.clock.sleep(self.every_s)
            await self.once()

    async def once(self) -> None:
        """Make one round trip, once it is known where we listen, and note how it went."""
        if self.address is None:
            return
        try:
            async with asyncio.timeout(WITHIN_S):
                self._passed(await self._round_trip(*self.address))
        except TimeoutError:
            self._failed(f"nothing came back within {WITHIN_S:g} s")
        except InvalidStatus as error:
            self._failed(f"refused with status {error.response.status_code}")
        # The library asserts on uvloop that a peer does not close before the handshake; without descriptors ours does.
        except (OSError, WebSocketException, AssertionError) as error:
            self._failed(type(error).__name__)
        finally:
            self.word = self.outbox = None

    async def _round_trip(self, host: str, port: int) -> float:
        """Publish a value and receive it; how long that took, in seconds."""
        self.word = word = secrets.token_urlsafe(16)
        url = f"ws://{f'[{host}]' if ':' in host else host}:{port}/ws?ticket={word}"
        async with connect(
            url, proxy=None, compression=None, ping_interval=None, open_timeout=None, close_timeout=1, logger=_quiet
        ) as connection:
            await _receive(connection, "hello")
            if self.outbox is None:
                raise ConnectionRefusedError
            self.hub.subscribe(self.outbox, [topics.PROBE])
            await _receive(connection, "synced")
            began = self.clock.now()
            self.hub.broadcast_control(topics.PROBE, messages.control("probe", {"topic": topics.PROBE}))
            await _receive(connection, "probe")
            return self.clock.now() - began

    # --- at the door ---

    def claims_of(self, word: str | None) -> Claims | None:
        """What a new connection that shows this word may do, if it is ours; that is so once."""
        ours = self.word
        if ours is None or word is None or not secrets.compare_digest(ours.encode(), word.encode(errors="replace")):
            return None
        self.word = None
        return PROBE

    def enter(self, outbox: Outbox) -> None:
        """Our own connection has been taken."""
        outbox.tally = Tally()
        self.outbox = outbox

    def listens(self, name: Sequence[object]) -> None:
        """Where we listen, as the socket says it: an address that stands for all is reached by loopback."""
        host, port = str(name[0]), int(str(name[1]))
        address = ipaddress.ip_address(host.partition("%")[0])
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
        self.address = host, port

    # --- how it went ---

    def _passed(self, took_s: float) -> None:
        if self.failing >= FAILURES_TOLD:
            log.info("probe_passed", extra={"after": self.failing})
        self.failing = 0
        self.last_s = took_s
        self.took.observe(took_s)

    def _failed(self, cause: str) -> None:
        self.failed += 1
        self.failing += 1
        self.cause = cause
        if self.failing == FAILURES_TOLD:
            log.error("probe_failed", extra={"times": self.failing, "cause": cause})

    def trouble(self) -> str | None:
        """Why this process should get no new clients now."""
        return f"the self-probe fails: {self.cause}" if self.failing >= FAILURES_TOLD else None

    def report(self) -> dict[str, object]:
        """For people."""
        return {
            "round_trip_ms": None if self.last_s is None else round(self.last_s * 1000, 2),
            "passed": self.took.count,
            "failed": self.failed,
            "failing": self.failing,
        }


async def _receive(connection: ClientConnection, kind: str) -> None:
    """Read up to the first message of this type."""
    while json.loads(await connection.recv())["type"] != kind:
        pass


# The library would log each failed connection; ours are told once.
_quiet = logging.getLogger("stream_server.observing.probe.library")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False
_quiet.setLevel(logging.CRITICAL)
