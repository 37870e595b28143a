"""Run one connection to an exchange that sends many streams over one: its handshake, its subscriptions, its end.

A `Link` brings the exchange's subscriptions in line with the set of wanted streams, by the URL when it connects and by
messages after that, slower than the exchange's limit. Frames that concern the connection itself end here: answers to
these messages, and the announcement that the server is about to close. All other frames are parsed once and passed on.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

import websockets
from websockets.asyncio.client import ClientConnection, connect

from feeds.exchange.awake import STOOD_STILL_S
from feeds.exchange.slices import SlicedWork
from feeds.exchange.venue import Ack, Act, Opened, Shutdown, Venue
from orchestrator.clock import Clock
from orchestrator.errors import Malformed, ProviderError, Unavailable
from orchestrator.hosts import Host
from orchestrator.http import HttpResponse, os_words, refusal
from orchestrator.silence import SILENT
from orchestrator.waiting import first_of, until_one_ends

log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SocketPolicy:
    """How patient we are with a connection. Times in seconds."""

    open_timeout_s: float = 10.0
    ack_timeout_s: float = 10.0
    idle_s: float = 5.0
    """After this time without a frame the peer is pinged, and has `pong_s` to answer."""
    pong_s: float = 5.0
    paused_s: float = 10.0
    """A process that stood still for longer drops its connection unread: the frames that wait there are old."""
    stable_s: float = 15.0
    """A connection that delivered for this long is replaced without a delay: that can't become a hot loop."""
    first_delay_s: float = 1.0
    longest_delay_s: float = 30.0
    life_jitter_s: float = 1800.0
    """The age at which a connection is replaced varies by this much either way."""
    overlap_s: float = 10.0
    """How long a successor that has all streams may take to deliver those that send often."""


@dataclass(slots=True)
class SocketReport:
    """The state of one socket. `state` is connecting, live, waiting (for its next attempt) or idle.

    `connects` counts every connection, `rotations` those of them that took over from a living one.
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

    `wanted` and `report` belong to the socket; `nudge()` makes the link look at `wanted` again. `on_open(link)` is
    called after the handshake, `on_frame(link, frame)` for every frame that does not concern the connection itself,
    `on_shutdown(link)` when its server announces its end, `on_confirmed(link, streams)` when the exchange has begun to
    send streams. All `work` is done before the next frame is read.
    """

    def __init__(
        self,
        name: str,
        venue: Venue,
        host: Host,
        clock: Clock,
        policy: SocketPolicy,
        wanted: Set[str],
        report: SocketReport,
        on_open: Callable[["Link"], None],
        work: SlicedWork,
        on_frame: Callable[["Link", Opened], None],
        on_shutdown: Callable[["Link"], None],
        on_confirmed: Callable[["Link", set[str]], None],
    ) -> None:
        self.name = name
        self.venue = venue
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
        """The streams of the message under way; a frame of one of them is as good as the answer."""
        self.renewing: set[str] = set()
        self.changed = asyncio.Event()
        self.next_id = 1
        self.acks: dict[int, asyncio.Future[str | None]] = {}
        self.is_open = False
        self.last_heard = 0.0
        self.next_frame: asyncio.Future[object] | None = None
        """The next frame of any kind sets it, while an answer to our own ping is expected."""
        self.ran_at = float("inf")
        self.fenced = False
        self.first_data: float | None = None
        self.last_data = 0.0
        self.task = asyncio.create_task(self._run(), name=name)

    # --- what is asked of it ---

    def nudge(self) -> None:
        """Bring the subscriptions in line with `wanted`, which has changed."""
        self.changed.set()

    def renew(self, streams: Set[str]) -> None:
        """Unsubscribe from these streams and subscribe to them again."""
        self.renewing |= streams & self.active
        self.changed.set()

    def acknowledged(self, ack: Ack) -> None:
        """Take the exchange's answer to a message of ours; one without an id belongs to the oldest that waits."""
        if ack.streams is not None and ack.error is None:
            self._confirm(self.asked & ack.streams)
            if self.asked:
                return  # the exchange answers for each stream, and some are still to come
        number = ack.request_id if isinstance(ack.request_id, int) else next(iter(self.acks), None)
        waiting = self.acks.pop(number, None) if number is not None else None
        if waiting is not None and not waiting.done():
            waiting.set_result(ack.error)

    def delivered(self, stream: str) -> None:
        """Note that a frame of this stream has come."""
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
        """Return for how long it has delivered."""
        return self.last_data - self.first_data if self.first_data is not None else 0.0

    # --- its life ---

    async def _run(self) -> None:
        """Connect and converse. Raises ProviderError at the end; returns when nothing is wanted any more."""
        address = self.venue.streams.address(self.host.url, sorted(self.wanted))
        try:
            # No keepalive pings while frames come: they would prove only that the peer's TCP stack lives, and a pong
            # behind a burst that we are still reading would even kill a healthy link.
            async with _Connect(
                address.url,
                open_timeout=self.policy.open_timeout_s,
                close_timeout=1,
                ping_interval=None,
                max_size=MAX_FRAME_BYTES,
                compression=None,
                logger=SILENT,  # this module logs the same in its own words
            ) as connection:
                self.is_open = True
                self.last_heard = self.clock.now()
                self.on_open(self)
                self._confirm(set(address.streams))
                await self._converse(connection)
        except websockets.InvalidStatus as error:
            raise self._handshake_refusal(error) from None
        except (websockets.InvalidHandshake, websockets.InvalidURI, websockets.InvalidProxy) as error:
            raise Malformed(self.venue.name, f"handshake failed ({type(error).__name__})") from None
        except TimeoutError:
            raise Unavailable(self.venue.name, "no handshake in time") from None
        except OSError as error:
            raise Unavailable(self.venue.name, f"cannot connect ({os_words(error)})") from None

    async def _converse(self, connection: ClientConnection) -> None:
        try:
            await until_one_ends(
                {
                    f"{self.name}:read": self._read(connection),
                    f"{self.name}:control": self._control(connection),
                    f"{self.name}:silence": self._test_silence(connection),
                    f"{self.name}:time": self._watch_the_time(),
                }
            )
        except websockets.ConnectionClosed as closed:
            raise Unavailable(self.venue.name, f"connection closed ({_close_words(closed)})") from None
        finally:
            connection.transport.abort()  # no closing handshake: the peer may be the reason why we leave

    async def _read(self, connection: ClientConnection) -> None:
        """Read every frame that comes. A frame may be worked off in slices; nothing else downstream delays reading."""
        loop = asyncio.get_running_loop()
        breath = loop.time()
        while True:
            raw = await connection.recv(decode=False)
            self._check_time()
            self.last_heard = self.clock.now()
            if self.next_frame is not None and not self.next_frame.done():
                self.next_frame.set_result(None)
            self._take(self.venue.frames.open(raw, self.clock.wall_ms()))
            if not self.work.is_done:
                await self.work.done()
                breath = loop.time()
            # recv() does not yield while frames are queued: a burst must not starve the clients.
            if loop.time() - breath > 0.01:
                await asyncio.sleep(0)
                breath = loop.time()

    def _take(self, frame: Opened) -> None:
        self.report.frames += 1
        self.report.last_frame_ms = frame.received_ms
        match self.venue.frames.control_of(frame):
            case Ack() as ack:
                self.acknowledged(ack)
            case Shutdown():
                self.on_shutdown(self)
            case None:
                self.on_frame(self, frame)

    async def _watch_the_time(self) -> None:
        """Note that this process runs. Raises Unavailable after a time in which it didn't."""
        self.ran_at = self.clock.now()
        while True:
            await self.clock.sleep(self.policy.paused_s / 10)
            self._check_time()
            self.ran_at = self.clock.now()

    def _check_time(self) -> None:
        # Frames that came while the process was paused would be published as if they were new, the oldest first. A new
        # connection brings the present, and candles are fetched for the time between.
        stood_s = self.clock.now() - self.ran_at
        if self.fenced or stood_s >= self.policy.paused_s:
            self.fenced = True
            raise Unavailable(self.venue.name, f"left unread after a pause of {stood_s:.0f} s")

    async def _test_silence(self, connection: ClientConnection) -> None:
        """Ask a silent peer for a sign of life. Raises Unavailable if nothing comes, not even an answer."""
        while True:
            quiet_s = self.clock.now() - self.last_heard
            if quiet_s >= self.policy.idle_s:
                asked_at = self.clock.now()
                pong = await self._ask_for_life(connection)
                await first_of(pong, self.clock.sleep(self.policy.pong_s))
                # Had we stood still meanwhile, the answer would be waiting behind what we have not read.
                stood_still = self.clock.now() - asked_at > self.policy.pong_s + STOOD_STILL_S
                silent = not pong.done() and self.clock.now() - self.last_heard >= self.policy.pong_s
                if silent and not stood_still:
                    raise Unavailable(self.venue.name, f"no sign of life within {self.policy.pong_s:g} s of a ping")
                quiet_s = 0.0
            await self.clock.sleep(self.policy.idle_s - quiet_s)

    async def _ask_for_life(self, connection: ClientConnection) -> asyncio.Future[object]:
        """Send a ping, or the exchange's own message. Returns a future that the pong, or the next frame, sets."""
        message = self.venue.streams.idle_message
        if message is None:
            return asyncio.ensure_future(await connection.ping())
        self.next_frame = asyncio.get_running_loop().create_future()
        await connection.send(message, text=True)
        return self.next_frame

    async def _control(self, connection: ClientConnection) -> None:
        """Bring the subscriptions in line with what is wanted, one slow message after the other."""
        while self.wanted:
            self.renewing &= self.active
            missing, surplus = self.wanted - self.active, self.active - self.wanted
            if self.renewing:
                left = await self._command(connection, Act.UNSUBSCRIBE, self.renewing)
                self.renewing.difference_update(left)
                self.active.difference_update(left)
            elif missing:
                await self._command(connection, Act.SUBSCRIBE, missing)
            elif surplus:
                await self._command(connection, Act.UNSUBSCRIBE, surplus)
            else:
                self.changed.clear()
                await self.changed.wait()

    async def _command(self, connection: ClientConnection, act: Act, streams: Set[str]) -> Sequence[str]:
        """Send one message and wait for its answer. Returns the streams it covered, as one may not cover them all."""
        number = self.next_id
        self.next_id += 1
        command = self.venue.streams.command(act, sorted(streams), number)
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.acks[number] = answer
        self.asked = set(command.streams) if act is Act.SUBSCRIBE else set()
        next_at = self.clock.now() + self.venue.streams.command_gap_s
        try:
            await connection.send(command.message, text=True)
            await first_of(answer, self.clock.sleep(self.policy.ack_timeout_s))
            error = answer.result() if answer.done() else "no answer in time"
            self.report.last_error = None if error is None else f"{act}: {error}"
            if error is not None:
                log.warning("stream_refused", extra={"socket": self.name, "method": act.value, "cause": error})
                await self.clock.sleep(self.policy.ack_timeout_s / 2)
            elif act is Act.SUBSCRIBE:
                self._confirm(set(self.asked))
            else:
                self.active.difference_update(command.streams)
            await self.clock.sleep(next_at - self.clock.now())
        finally:
            self.acks.pop(number, None)
        return command.streams

    def _confirm(self, streams: set[str]) -> None:
        self.active |= streams
        self.asked -= streams
        if streams:
            self.on_confirmed(self, streams)

    def _handshake_refusal(self, error: websockets.InvalidStatus) -> ProviderError:
        answer = error.response
        headers = {name.lower(): value for name, value in answer.headers.raw_items()}
        response = HttpResponse(answer.status_code, headers, bytes(answer.body or b""), self.clock.wall_ms())
        meant = refusal(self.venue.name, response)
        return meant or Malformed(self.venue.name, f"handshake answered with status {answer.status_code}")


class _Connect(connect):
    """A connection that follows no redirect: the settings name every host we may ask."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def _close_words(closed: websockets.ConnectionClosed) -> str:
    if closed.rcvd is not None:
        reason = f" {json.dumps(closed.rcvd.reason)}" if closed.rcvd.reason else ""
        return f"code {closed.rcvd.code}{reason}"
    return f"we sent {closed.sent.code}" if closed.sent is not None else "no close frame"
