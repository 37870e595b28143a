"""One long-lived socket to a combined-stream exchange: connect, keep its subscriptions, watch for silence, read.

What is wanted is a set of stream names. The socket brings the exchange's subscriptions in line with it, by the
URL when it connects and by control messages after, slower than the exchange's limit. It reconnects for ever: the
next host first, then ever later, and the delay is forgiven only after a stretch of real data, because a peer that
accepts and closes at once would otherwise be asked in a hot loop.
"""

import asyncio
import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import websockets
from websockets.asyncio.client import ClientConnection, connect

from feeds.providers import binance
from orchestrator.clock import Clock
from orchestrator.errors import Malformed, ProviderError, Unavailable
from orchestrator.hosts import Host, Hosts
from orchestrator.http import HttpResponse, os_words, refusal
from orchestrator.retry import Backoff

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
    silence_s: float = 15.0
    """No frame at all for this long, while some stream is due each second, means a dead stream."""
    stable_s: float = 60.0
    first_delay_s: float = 1.0
    longest_delay_s: float = 30.0


@dataclass(slots=True)
class SocketReport:
    """How one socket is doing. `state` is connecting, live, waiting (for its next attempt) or idle."""

    state: str = "idle"
    host: str | None = None
    connects: int = 0
    frames: int = 0
    last_frame_ms: int | None = None
    last_error: str | None = None
    retry_in_s: float | None = None


class StreamSocket:
    """One connection's worth of streams.

    `on_frame(raw, received_ms)` is called for every frame, must not wait, and tells whether the frame was market data:
    an answer to a command is no sign that the streams live. `on_subscribed(streams)` is called
    when the exchange has confirmed streams, after every connect anew; `on_change()` when the report's state changes.
    """

    def __init__(
        self,
        name: str,
        hosts: Hosts,
        clock: Clock,
        rng: random.Random,
        on_frame: Callable[[bytes, int], bool],
        on_subscribed: Callable[[set[str]], None],
        policy: SocketPolicy,
        on_change: Callable[[], None],
    ) -> None:
        self.name = name
        self.hosts = hosts
        self.clock = clock
        self.on_frame = on_frame
        self.on_subscribed = on_subscribed
        self.policy = policy
        self.on_change = on_change
        self.backoff = Backoff(self.policy.first_delay_s, self.policy.longest_delay_s, rng)
        self.wanted: set[str] = set()
        self.active: set[str] = set()
        self.changed = asyncio.Event()
        self.report = SocketReport()
        self.next_id = 1
        self.acks: dict[int, asyncio.Future[str | None]] = {}
        self.first_frame = 0.0
        self.last_frame = 0.0
        self.connection: ClientConnection | None = None

    def want(self, stream: str) -> None:
        """Have this stream from now on."""
        if stream not in self.wanted:
            self.wanted.add(stream)
            self.changed.set()

    def drop(self, stream: str) -> None:
        """Have this stream no longer."""
        if stream in self.wanted:
            self.wanted.discard(stream)
            self.changed.set()

    def acknowledged(self, ack: binance.Ack) -> None:
        """Take the exchange's answer to a control message; an error without an id is the oldest one's."""
        number = ack.request_id if isinstance(ack.request_id, int) else next(iter(self.acks), None)
        waiting = self.acks.pop(number, None) if number is not None else None
        if waiting is not None and not waiting.done():
            waiting.set_result(ack.error)

    def reconnect(self) -> None:
        """Leave this connection, which is about to end anyway, for a new one."""
        if self.connection is not None:
            self.connection.transport.abort()

    def delivers(self) -> bool:
        """Whether data has been coming, and still is."""
        quiet_s = self.clock.now() - self.last_frame
        return self.connection is not None and bool(self.first_frame) and quiet_s < self.policy.silence_s / 2

    def _state(self, state: str) -> None:
        self.report.state = state
        self.on_change()

    async def run(self) -> None:
        """Keep the streams coming until cancelled."""
        while True:
            if not self.wanted:
                self._state("idle")
                self.changed.clear()
                await self.changed.wait()
            host = self.hosts.pick()
            if host is None:
                await self._wait(self.hosts.wait_s())
                continue
            connected_at = self.clock.now()
            try:
                await self._connection(host)
            except ProviderError as error:
                self.hosts.failed(host, error)
                self.report.last_error = f"{host.name}: {error.reason}"
                log.warning("stream_lost", extra={"socket": self.name, "host": host.name, "cause": error.reason})
            finally:
                self._disconnected()
            if self.first_frame and self.last_frame - max(self.first_frame, connected_at) >= self.policy.stable_s:
                self.backoff.reset()
            if self.wanted:
                await self._wait(self.backoff.next_delay_s())

    async def _wait(self, delay_s: float) -> None:
        self.report.retry_in_s = round(delay_s, 1)
        self._state("waiting")
        await self.clock.sleep(delay_s)
        self.report.retry_in_s = None

    async def _connection(self, host: Host) -> None:
        """One connection's life. Ends by ProviderError, or returns when nothing is wanted any more."""
        self.report.host = host.name
        self._state("connecting")
        in_url = set(sorted(self.wanted)[:STREAMS_IN_URL])
        path = "/".join(quote(stream, safe="!@") for stream in sorted(in_url))
        url = f"{_origin(host.url)}/stream?streams={path}"
        self.first_frame = 0.0
        try:
            # No keepalive pings of ours: the exchange pings, and they would prove only that its TCP stack lives.
            # A pong behind a burst that we are still reading would even kill a healthy link.
            async with _Connect(
                url,
                open_timeout=self.policy.open_timeout_s,
                close_timeout=1,
                ping_interval=None,
                max_size=MAX_FRAME_BYTES,
                compression=None,
                logger=_quiet,
            ) as connection:
                self.connection = connection
                self.report.connects += 1
                self._state("live")
                self.last_frame = self.clock.now()
                self.active = in_url
                log.info("stream_connected", extra={"socket": self.name, "host": host.name})
                self.on_subscribed(set(in_url))
                await self._converse(connection, host)
        except websockets.InvalidStatus as error:
            raise self._handshake_refusal(error) from None
        except (websockets.InvalidHandshake, websockets.InvalidURI, websockets.InvalidProxy) as error:
            raise Malformed(binance.NAME, f"handshake failed ({type(error).__name__})") from None
        except TimeoutError:
            raise Unavailable(binance.NAME, "no handshake in time") from None
        except OSError as error:
            raise Unavailable(binance.NAME, f"cannot connect ({os_words(error)})") from None

    async def _converse(self, connection: ClientConnection, host: Host) -> None:
        tasks = [
            asyncio.create_task(self._read(connection, host), name=f"{self.name}:read"),
            asyncio.create_task(self._control(connection), name=f"{self.name}:control"),
            asyncio.create_task(self._watch(), name=f"{self.name}:watch"),
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

    async def _read(self, connection: ClientConnection, host: Host) -> None:
        """Drain the socket. Handling a frame never waits, so nothing downstream can hold this up."""
        loop = asyncio.get_running_loop()
        breath = loop.time()
        while True:
            raw = await connection.recv(decode=False)
            received_ms = self.clock.wall_ms()
            self.report.frames += 1
            self.report.last_frame_ms = received_ms
            if self.on_frame(raw, received_ms):
                self.last_frame = self.clock.now()
                if not self.first_frame:
                    self.first_frame = self.last_frame
                    self.hosts.worked(host)
                    self.report.last_error = None
            # recv() does not yield while frames are queued: a burst must not starve the clients.
            if loop.time() - breath > 0.01:
                await asyncio.sleep(0)
                breath = loop.time()

    async def _control(self, connection: ClientConnection) -> None:
        """Bring the subscriptions in line with what is wanted, one slow message after the other."""
        while self.wanted:
            missing = sorted(self.wanted - self.active)[:STREAMS_PER_COMMAND]
            surplus = sorted(self.active - self.wanted)[:STREAMS_PER_COMMAND]
            if missing:
                await self._command(connection, "SUBSCRIBE", missing)
            elif surplus:
                await self._command(connection, "UNSUBSCRIBE", surplus)
            else:
                self.changed.clear()
                await self.changed.wait()

    async def _command(self, connection: ClientConnection, method: str, streams: list[str]) -> None:
        number = self.next_id
        self.next_id += 1
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self.acks[number] = answer
        gap = asyncio.ensure_future(self.clock.sleep(self.policy.command_gap_s))
        try:
            await connection.send(binance.command(method, streams, number), text=True)
            error = await self._answer(answer)
            if error is not None:
                self.report.last_error = f"{method}: {error}"
                log.warning("stream_refused", extra={"socket": self.name, "method": method, "cause": error})
                await self.clock.sleep(self.policy.ack_timeout_s / 2)
            else:
                self.report.last_error = None
                if method == "SUBSCRIBE":
                    self.active.update(streams)
                    self.on_subscribed(set(streams))
                else:
                    self.active.difference_update(streams)
            await gap
        finally:
            gap.cancel()
            self.acks.pop(number, None)

    async def _answer(self, answer: "asyncio.Future[str | None]") -> str | None:
        async def give_up() -> None:
            await self.clock.sleep(self.policy.ack_timeout_s)
            if not answer.done():
                answer.set_result("no answer in time")

        late = asyncio.ensure_future(give_up())
        try:
            return await answer
        finally:
            late.cancel()

    async def _watch(self) -> None:
        """Raise Unavailable when the socket lives but says nothing."""
        while True:
            quiet_s = self.clock.now() - self.last_frame
            if quiet_s >= self.policy.silence_s:
                word = "went silent" if self.first_frame else "never sent a frame"
                raise Unavailable(binance.NAME, f"{word} for {self.policy.silence_s:g} s")
            await self.clock.sleep(self.policy.silence_s - quiet_s)

    def _disconnected(self) -> None:
        self.connection = None
        self.active = set()
        self.acks.clear()

    def _handshake_refusal(self, error: websockets.InvalidStatus) -> ProviderError:
        answer = error.response
        headers = {name.lower(): value for name, value in answer.headers.raw_items()}
        response = HttpResponse(answer.status_code, headers, bytes(answer.body or b""), self.clock.wall_ms())
        meant = refusal(binance.NAME, response)
        return meant or Malformed(binance.NAME, f"handshake answered with status {answer.status_code}")


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
_quiet = logging.getLogger("feeds.websocket.library")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False
_quiet.setLevel(logging.CRITICAL)
