"""One connection to an exchange that sends many streams over one: its handshake, its subscriptions, its end.

A `Link` brings the exchange's subscriptions in line with the set of wanted streams, by the URL when it connects and by
control messages after, slower than the exchange's limit. What concerns the connection itself ends here: answers to
control messages, and the announcement that the server is about to close. All other frames are handed on, parsed once.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass
from urllib.parse import quote

import websockets
from websockets.asyncio.client import ClientConnection, connect

from feeds.exchange.awake import STOOD_STILL_S
from feeds.exchange.slices import SlicedWork
from feeds.venues import binance
from orchestrator.clock import Clock
from orchestrator.errors import Malformed, ProviderError, Unavailable
from orchestrator.hosts import Host
from orchestrator.http import HttpResponse, os_words, refusal

log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 4 * 1024 * 1024
STREAMS_IN_URL = 100
STREAMS_PER_COMMAND = 200


@dataclass(frozen=True, slots=True)
class SocketPolicy:
    """Times in seconds."""

    open_timeout_s: float = 10.0
    command_gap_s: float = 0.25
    """Binance allows 5 incoming messages a second, our pongs included: 4 leave room for those."""
    ack_timeout_s: float = 10.0
    idle_s: float = 5.0
    """After so long without a frame the peer is pinged, and has `pong_s` to answer."""
    pong_s: float = 5.0
    paused_s: float = 10.0
    """Whoever stood still for longer drops its connection unread: what waited there is no news any more."""
    stable_s: float = 15.0
    """A connection that has delivered for so long is replaced at once: that is no hot loop."""
    first_delay_s: float = 1.0
    longest_delay_s: float = 30.0
    life_s: float = 23 * 3600.0
    """Binance ends a connection after 24 h; its successor is made before, jittered by `life_jitter_s` either way."""
    life_jitter_s: float = 1800.0
    overlap_s: float = 10.0
    """So long a successor that has all streams may take to deliver those that speak often."""


@dataclass(slots=True)
class SocketReport:
    """How one socket is doing. `state` is connecting, live, waiting (for its next attempt) or idle.

    `connects` counts every connection, `rotations` those of them that took over from one that lived.
    """

    state: str = "idle"
    host: str | None = None
    connects: int = 0
    rotations: int = 0
    frames: int = 0
    last_frame_ms: int | None = None
    last_error: str | None = None
    last_rotation: str | None = None
    retry_in_s: float | None = None


class Link:
    """One connection to one host, from its handshake to its end, and the subscriptions on it.

    `wanted` and `report` are the socket's own; `nudge()` says that what is wanted has changed. `on_open(link)` is
    called after the handshake, `on_frame(link, frame)` for every frame that does not concern the connection itself,
    `on_shutdown(link)` when its server announces its end, `on_confirmed(link, streams)` when the exchange sends
    streams. Before the next frame is read, `work` has to be done.
    """

    def __init__(
        self,
        name: str,
        host: Host,
        clock: Clock,
        policy: SocketPolicy,
        wanted: Set[str],
        report: SocketReport,
        on_open: Callable[["Link"], None],
        work: SlicedWork,
        on_frame: Callable[["Link", binance.Opened], None],
        on_shutdown: Callable[["Link"], None],
        on_confirmed: Callable[["Link", set[str]], None],
    ) -> None:
        self.name = name
        self.host = host
        self.clock = clock
        self.policy = policy
        self.wanted = wanted
        self.report = report
        self.on_open = on_open
        self.work = work
        self.on_frame = on_frame
        self.on_shutdown = on_shutdown
        self.on_confirmed = on_confirmed
        self.active: set[str] = set()
        self.asked: set[str] = set()
        """The streams of the command under way; a frame of one of them is as good as its answer."""
        self.renewing: set[str] = set()
        self.changed = asyncio.Event()
        self.next_id = 1
        self.acks: dict[int, asyncio.Future[str | None]] = {}
        self.is_open = False
        self.last_heard = 0.0
        self.ran_at = float("inf")
        self.fenced = False
        self.first_data: float | None = None
        self.last_data = 0.0
        self.task = asyncio.create_task(self._run(), name=name)

    # --- what is asked of it ---

    def nudge(self) -> None:
        """What is wanted has changed."""
        self.changed.set()

    def renew(self, streams: Set[str]) -> None:
        """Leave these streams and ask for them anew."""
        self.renewing |= streams & self.active
        self.changed.set()

    def acknowledged(self, ack: binance.Ack) -> None:
        """Take the exchange's answer to a control message; an error without an id is the oldest one's."""
        number = ack.request_id if isinstance(ack.request_id, int) else next(iter(self.acks), None)
        waiting = self.acks.pop(number, None) if number is not None else None
        if waiting is not None and not waiting.done():
            waiting.set_result(ack.error)

    def delivered(self, stream: str) -> None:
        """A frame of this stream has come."""
        self.last_data = self.clock.now()
        if self.first_data is None:
            self.first_data = self.last_data
        if stream in self.asked:
            self.report.last_error = None
            self._confirm({stream})
            if not self.asked:
                for waiting in self.acks.values():
                    if not waiting.done():
                        waiting.set_result(None)

    def lived_s(self) -> float:
        """For how long it has delivered."""
        return self.last_data - self.first_data if self.first_data is not None else 0.0

    # --- its life ---

    async def _run(self) -> None:
        """From handshake to end: a ProviderError, or a return when nothing is wanted any more."""
        in_url = set(sorted(self.wanted)[:STREAMS_IN_URL])
        path = "/".join(quote(stream, safe="!@") for stream in sorted(in_url))
        url = f"{_origin(self.host.url)}/stream?streams={path}"
        try:
            # No keepalive pings while frames come: they would prove only that the peer's TCP stack lives, and a pong
            # behind a burst that we are still reading would even kill a healthy link.
            async with _Connect(
                url,
                open_timeout=self.policy.open_timeout_s,
                close_timeout=1,
                ping_interval=None,
                max_size=MAX_FRAME_BYTES,
                compression=None,
                logger=_quiet,
            ) as connection:
                self.is_open = True
                self.last_heard = self.clock.now()
                self.on_open(self)
                self._confirm(in_url)
                await self._converse(connection)
        except websockets.InvalidStatus as error:
            raise self._handshake_refusal(error) from None
        except (websockets.InvalidHandshake, websockets.InvalidURI, websockets.InvalidProxy) as error:
            raise Malformed(binance.NAME, f"handshake failed ({type(error).__name__})") from None
        except TimeoutError:
            raise Unavailable(binance.NAME, "no handshake in time") from None
        except OSError as error:
            raise Unavailable(binance.NAME, f"cannot connect ({os_words(error)})") from None

    async def _converse(self, connection: ClientConnection) -> None:
        tasks = [
            asyncio.create_task(self._read(connection), name=f"{self.name}:read"),
            asyncio.create_task(self._control(connection), name=f"{self.name}:control"),
            asyncio.create_task(self._feel_pulse(connection), name=f"{self.name}:pulse"),
            asyncio.create_task(self._watch_the_time(), name=f"{self.name}:time"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except websockets.ConnectionClosed as closed:
            raise Unavailable(binance.NAME, f"connection closed ({_close_words(closed)})") from None
        finally:
            connection.transport.abort()  # no closing handshake: the peer may be the reason why we leave
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, connection: ClientConnection) -> None:
        """Drain the connection. A frame may be worked off in slices; nothing else downstream can hold this up."""
        loop = asyncio.get_running_loop()
        breath = loop.time()
        while True:
            raw = await connection.recv(decode=False)
            self._check_time()
            self.last_heard = self.clock.now()
            self._take(binance.open_frame(raw, self.clock.wall_ms()))
            if not self.work.is_done:
                await self.work.done()
                breath = loop.time()
            # recv() does not yield while frames are queued: a burst must not starve the clients.
            if loop.time() - breath > 0.01:
                await asyncio.sleep(0)
                breath = loop.time()

    def _take(self, frame: binance.Opened) -> None:
        self.report.frames += 1
        self.report.last_frame_ms = frame.received_ms
        match binance.control_of(frame):
            case binance.Ack() as ack:
                self.acknowledged(ack)
            case binance.Shutdown():
                self.on_shutdown(self)
            case None:
                self.on_frame(self, frame)

    async def _watch_the_time(self) -> None:
        """Note that we are running, and raise Unavailable when we were not for a while."""
        self.ran_at = self.clock.now()
        while True:
            await self.clock.sleep(self.policy.paused_s / 10)
            self._check_time()
            self.ran_at = self.clock.now()

    def _check_time(self) -> None:
        # Frames that came while the process was paused would be told as if they were new, the oldest first. A new
        # connection brings the present, and candles are fetched for the time between.
        stood_s = self.clock.now() - self.ran_at
        if self.fenced or stood_s >= self.policy.paused_s:
            self.fenced = True
            raise Unavailable(binance.NAME, f"left unread after a pause of {stood_s:.0f} s")

    async def _feel_pulse(self, connection: ClientConnection) -> None:
        """Raise Unavailable when nothing comes, not even the answer to a ping."""
        while True:
            quiet_s = self.clock.now() - self.last_heard
            if quiet_s >= self.policy.idle_s:
                asked_at = self.clock.now()
                pong = asyncio.ensure_future(await connection.ping())
                await first_of(pong, self.clock.sleep(self.policy.pong_s))
                # Had we stood still meanwhile, the answer would be waiting behind what we have not read.
                stood_still = self.clock.now() - asked_at > self.policy.pong_s + STOOD_STILL_S
                silent = not pong.done() and self.clock.now() - self.last_heard >= self.policy.pong_s
                if silent and not stood_still:
                    raise Unavailable(binance.NAME, f"no sign of life within {self.policy.pong_s:g} s of a ping")
                quiet_s = 0.0
            await self.clock.sleep(self.policy.idle_s - quiet_s)

    async def _control(self, connection: ClientConnection) -> None:
        """Bring the subscriptions in line with what is wanted, one slow message after the other."""
        while self.wanted:
            missing = sorted(self.wanted - self.active)[:STREAMS_PER_COMMAND]
            surplus = sorted(self.active - self.wanted)[:STREAMS_PER_COMMAND]
            if self.renewing:
                anew, self.renewing = sorted(self.renewing & self.active), set()
                await self._command(connection, "UNSUBSCRIBE", anew[:STREAMS_PER_COMMAND])
                self.active.difference_update(anew)
            elif missing:
                await self._command(connection, "SUBSCRIBE", missing)
            elif surplus:
                await self._command(connection, "UNSUBSCRIBE", surplus)
            else:
                self.changed.clear()
                await self.changed.wait()

    async def _command(self, connection: ClientConnection, method: str, streams: list[str]) -> None:
        if not streams:
            return
        number = self.next_id
        self.next_id += 1
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.acks[number] = answer
        self.asked = set(streams) if method == "SUBSCRIBE" else set()
        gap = asyncio.ensure_future(self.clock.sleep(self.policy.command_gap_s))
        try:
            await connection.send(binance.command(method, streams, number), text=True)
            await first_of(answer, self.clock.sleep(self.policy.ack_timeout_s))
            error = answer.result() if answer.done() else "no answer in time"
            self.report.last_error = None if error is None else f"{method}: {error}"
            if error is not None:
                log.warning("stream_refused", extra={"socket": self.name, "method": method, "cause": error})
                await self.clock.sleep(self.policy.ack_timeout_s / 2)
            elif method == "SUBSCRIBE":
                self._confirm(set(self.asked))
            else:
                self.active.difference_update(streams)
            await gap
        finally:
            gap.cancel()
            self.acks.pop(number, None)

    def _confirm(self, streams: set[str]) -> None:
        self.active |= streams
        self.asked -= streams
        if streams:
            self.on_confirmed(self, streams)

    def _handshake_refusal(self, error: websockets.InvalidStatus) -> ProviderError:
        answer = error.response
        headers = {name.lower(): value for name, value in answer.headers.raw_items()}
        response = HttpResponse(answer.status_code, headers, bytes(answer.body or b""), self.clock.wall_ms())
        meant = refusal(binance.NAME, response)
        return meant or Malformed(binance.NAME, f"handshake answered with status {answer.status_code}")


async def first_of(*waits: Awaitable[object]) -> None:
    """Return when one of them has ended. Coroutines are cancelled then; tasks and futures are left alone."""
    futures = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for future, wait in zip(futures, waits, strict=True):
            if future is not wait:
                future.cancel()


class _Connect(connect):
    """Follows no redirect: a host that we were not told of is none of ours."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def _origin(url: str) -> str:
    """A base URL as people write it: with or without the path that Binance's documentation shows."""
    bare = url.rstrip("/")
    for path in ("/stream", "/ws"):
        bare = bare.removesuffix(path)
    return bare


def _close_words(closed: websockets.ConnectionClosed) -> str:
    if closed.rcvd is not None:
        reason = f" {json.dumps(closed.rcvd.reason)}" if closed.rcvd.reason else ""
        return f"code {closed.rcvd.code}{reason}"
    return f"we sent {closed.sent.code}" if closed.sent is not None else "no close frame"


# The library logs what we already say in words of our own.
_quiet = logging.getLogger("feeds.exchange.link.library")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False
_quiet.setLevel(logging.CRITICAL)
