"""Probe the service from inside: every few seconds publish a value, and receive it as a client would.

The probe connects to our own listening socket over loopback as a WebSocket client, so that accept, handshake, session,
hub, group, round, outbox and socket all take part. It must not be visible. The door recognises it by a word that is
made for one connection and never leaves this process, so it passes tokens and limits, is not among the clients, and is
not counted. Its value is a control message on a topic that no pattern matches, that no client can subscribe to and that
no feed is asked for; it takes no id and is not kept.
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
from orchestrator.silence import SILENT
from stream_server.access.tokens import Claims
from stream_server.delivery.hub import Hub
from stream_server.delivery.meters import ANSWER_BOUNDS_S, Histogram, Tally
from stream_server.delivery.outbox import Outbox
from stream_server.wire import messages

log = logging.getLogger(__name__)

WITHIN_S = 3.0
"""The longest time from the first packet to the receipt of the value."""
FAILURES_REPORTED = 3
"""Failures in a row that are reported; a single one may be a short pause."""

PROBE = Claims("self-probe", topics=())
"""The rights of the probe: the door lets it in by its word, and it may read no topic of others."""


class Probe:
    """Makes round trips. `failed` counts those that failed, `failing` those that failed since the last success."""

    def __init__(self, hub: Hub, clock: Clock, every_s: float) -> None:
        """`every_s` is the time between two round trips; 0 means none."""
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
        """Probe until cancelled."""
        while True:
            await self.clock.sleep(self.every_s)
            await self.once()

    async def once(self) -> None:
        """Make one round trip and note its result; do nothing before the address of our socket is known."""
        if self.address is None:
            return
        try:
            async with asyncio.timeout(WITHIN_S):
                self._passed(await self._round_trip(*self.address))
        except TimeoutError:
            self._failed(f"nothing came back within {WITHIN_S:g} s")
        except InvalidStatus as error:
            self._failed(f"refused with status {error.response.status_code}")
        # websockets asserts on uvloop that a peer does not close before the handshake; without descriptors ours does.
        except (OSError, WebSocketException, AssertionError) as error:
            self._failed(type(error).__name__)
        finally:
            self.word = self.outbox = None

    async def _round_trip(self, host: str, port: int) -> float:
        """Publish a value, receive it, and return how long that took, in seconds."""
        self.word = word = secrets.token_urlsafe(16)
        url = f"ws://{f'[{host}]' if ':' in host else host}:{port}/ws?ticket={word}"
        async with connect(
            url, proxy=None, compression=None, ping_interval=None, open_timeout=None, close_timeout=1, logger=SILENT
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
        """Return the rights of the probe to the one connection that shows its word; None to others."""
        ours = self.word
        if ours is None or word is None or not secrets.compare_digest(ours.encode(), word.encode(errors="replace")):
            return None
        self.word = None
        return PROBE

    def enter(self, outbox: Outbox) -> None:
        """Take note of the probe's own connection, which is not counted."""
        outbox.join(Tally())
        self.outbox = outbox

    def listens(self, name: Sequence[object]) -> None:
        """Take the address of our socket; one that stands for all addresses is reached over loopback."""
        host, port = str(name[0]), int(str(name[1]))
        address = ipaddress.ip_address(host.partition("%")[0])
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
        self.address = host, port

    # --- results ---

    def _passed(self, took_s: float) -> None:
        if self.failing >= FAILURES_REPORTED:
            log.info("probe_passed", extra={"after": self.failing})
        self.failing = 0
        self.last_s = took_s
        self.took.observe(took_s)

    def _failed(self, cause: str) -> None:
        self.failed += 1
        self.failing += 1
        self.cause = cause
        if self.failing == FAILURES_REPORTED:
            log.error("probe_failed", extra={"times": self.failing, "cause": cause})

    def trouble(self) -> str | None:
        """Return why this process should get no new clients now; None if it should."""
        return f"the self-probe fails: {self.cause}" if self.failing >= FAILURES_REPORTED else None

    def report(self) -> dict[str, object]:
        """Return the results so far, for people."""
        return {
            "round_trip_ms": None if self.last_s is None else round(self.last_s * 1000, 2),
            "passed": self.took.count,
            "failed": self.failed,
            "failing": self.failing,
        }


async def _receive(connection: ClientConnection, kind: str) -> None:
    """Read messages up to the first one of this type."""
    while json.loads(await connection.recv())["type"] != kind:
        pass
