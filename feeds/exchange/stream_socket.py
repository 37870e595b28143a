"""Keep streams of an exchange coming, over one connection at a time, and over two while one succeeds the other.

A `StreamSocket` has a set of wanted streams and one `Link` that brings them. When a link breaks, the next host is tried
first, and then each attempt comes later than the one before. The delay is reset only after a stretch of real data,
because a peer that accepts and closes at once would otherwise be asked in a hot loop. When a link is about to end (it
grows old, its server announced so, a stream on it is dead), its successor is opened first, and takes over once it
delivers what the old one does.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Set
from dataclasses import dataclass

from feeds.exchange.handover import Arrival, Handover
from feeds.exchange.link import Link, SocketPolicy, SocketReport
from feeds.exchange.slices import SlicedWork, Work
from feeds.exchange.venue import Opened, Venue
from orchestrator.clock import Clock
from orchestrator.errors import ProviderError, Unavailable
from orchestrator.hosts import Host, Hosts
from orchestrator.retry import Backoff
from orchestrator.waiting import first_of

log = logging.getLogger(__name__)

LOOK_S = 0.1
"""Time between two checks of whether a successor is ready."""


@dataclass(frozen=True, slots=True)
class _Due:
    """Why a link must be succeeded, and whether by one to another host if there is one."""

    reason: str
    elsewhere: bool


class StreamSocket:
    """Brings as many streams as one connection may have, without a break of our own making.

    `on_frame(frame)` returns the work that a frame makes; it is called for every frame that counts, in their order.
    `on_subscribed(streams)` is called when the exchange has begun to send streams after a time in which it may not
    have: what passed in that time is missing. `is_lively(stream, within_s)` returns whether a stream will send within
    that time; `on_change()` is called when the report's state changes, and `on_connection(host, cause)` when a
    connection begins to count (cause None), or when the last one ended, with its cause.
    """

    def __init__(
        self,
        name: str,
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
        on_connection: Callable[[str, str | None], None] = lambda host, cause: None,
    ) -> None:
        self.name = name
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
        self.backoff = Backoff(policy.first_delay_s, policy.longest_delay_s, rng)
        self.wanted: set[str] = set()
        self.changed = asyncio.Event()
        self.report = SocketReport()
        self.link: Link | None = None
        self.successor: Link | None = None
        self.handover: Handover | None = None
        self.handover_ends = 0.0
        self.due: _Due | None = None
        self.is_due = asyncio.Event()

    @property
    def active(self) -> Set[str]:
        """The streams that the exchange sends now."""
        return self.link.active if self.link is not None else frozenset()

    def want(self, stream: str) -> None:
        """Bring this stream from now on."""
        if stream not in self.wanted:
            self.wanted.add(stream)
            self._nudge()

    def drop(self, stream: str) -> None:
        """Bring this stream no longer."""
        if stream in self.wanted:
            self.wanted.discard(stream)
            self._nudge()

    def _nudge(self) -> None:
        self.changed.set()
        for link in self._links():
            link.nudge()

    def renew(self, stream: str) -> None:
        """Unsubscribe from a stream and subscribe to it again, on the same connection."""
        if self.link is not None:
            self.report.last_error = f"{stream} is dead: subscribed again"
            self.link.renew({stream})

    def rotate(self, reason: str, elsewhere: bool = False) -> None:
        """Open a successor of the present connection, and close the present one once the successor delivers."""
        if self.due is None and self.link is not None:
            self.due = _Due(reason, elsewhere)
            self.is_due.set()

    def silent_s(self) -> float:
        """Return for how long no frame at all has come; 0 without a connection."""
        is_open = self.link is not None and self.link.is_open
        return self.clock.now() - self.link.last_heard if self.link is not None and is_open else 0.0

    # --- one connection after the other ---

    async def run(self) -> None:
        """Keep the streams coming until cancelled."""
        try:
            while True:
                if not self.wanted:
                    self._state("idle")
                    self.changed.clear()
                    await self.changed.wait()
                host = self._host()
                if host is None:
                    await self._wait(self.hosts.wait_s())
                    continue
                self.report.host = host.name
                self._state("connecting")
                link: Link | None = self._open(host)
                while link is not None:
                    self.link = link
                    link = await self._tend(link)
                if self.wanted:
                    await self._wait(self.backoff.next_delay_s())
        finally:
            await _end(*self._links())
            self.link = self.successor = None

    def _links(self) -> list[Link]:
        return [link for link in (self.link, self.successor) if link is not None]

    def _host(self, other_than: Host | None = None) -> Host | None:
        turn = self.hosts.in_turn()
        return next((host for host in turn if host is not other_than), turn[0] if turn else None)

    def _open(self, host: Host) -> Link:
        return Link(
            self.name,
            self.venue,
            host,
            self.clock,
            self.policy,
            self.wanted,
            self.report,
            self._opened,
            self.work,
            self._frame,
            self._announced,
            self._confirmed,
        )

    def _state(self, state: str) -> None:
        self.report.state = state
        self.on_change()

    async def _wait(self, delay_s: float) -> None:
        self.report.retry_in_s = round(delay_s, 1)
        self._state("waiting")
        await self.clock.sleep(delay_s)
        self.report.retry_in_s = None

    async def _tend(self, link: Link) -> Link | None:
        """Wait until the link has ended. Returns its successor, None if it has none."""
        life_s = self.venue.streams.life_s + (2 * self.rng.random() - 1) * self.policy.life_jitter_s
        ageing = asyncio.create_task(self._age(link, life_s), name=f"{self.name}:age")
        try:
            while self.link is link and not link.task.done():
                await first_of(link.task, self.is_due.wait())
                if self.due is not None and not link.task.done():
                    await self._succeed(link, self.due)
        finally:
            ageing.cancel()
        if self.link is link:
            self._over(link)
            self.on_connection(link.host.name, _end_of(link))
            self._forget_due()
            self.link = None
        return self.link

    async def _age(self, link: Link, life_s: float) -> None:
        await self.clock.sleep(life_s)
        if self.link is link:
            self.rotate("old age")

    def _over(self, link: Link) -> None:
        """Learn from how a connection ended."""
        error = None if link.task.cancelled() else link.task.exception()
        if isinstance(error, ProviderError):
            self._failed(link.host, error)
        elif error is not None:
            raise error
        self._forgive(link)

    def _forgive(self, link: Link) -> None:
        if link.lived_s() >= self.policy.stable_s:
            self.backoff.reset()

    def _failed(self, host: Host, error: ProviderError) -> None:
        self.hosts.failed(host, error)
        self.report.last_error = f"{host.name}: {error.reason}"
        log.warning("stream_lost", extra={"socket": self.name, "host": host.name, "cause": error.reason})

    def _forget_due(self) -> None:
        self.due = None
        self.is_due.clear()

    # --- two connections for a while ---

    async def _succeed(self, old: Link, due: _Due) -> None:
        """Open a successor of a living link. If that fails, wait a little, with the old link still at work."""
        host = self._host(other_than=old.host if due.elsewhere else None)
        if host is None:
            await first_of(old.task, self.clock.sleep(self.hosts.wait_s()))
            return
        log.info("stream_rotates", extra={"socket": self.name, "host": host.name, "cause": due.reason})
        before = self._handover()
        handover = self.handover = Handover(self.venue.streams.all_tickers, before)
        new = self.successor = self._open(host)
        ready = await self._deliver_both(old, new, handover, due)
        if new.task.done() or not (ready or old.task.done()):
            if new.task.done():
                self._over(new)
            else:
                missing = ", ".join(sorted(handover.missing())[:3])
                cause = f"a successor did not deliver {missing or 'in time'}"
                self._failed(host, Unavailable(self.venue.name, cause))
            self.successor, self.handover = None, before
            self.due = _Due(due.reason, elsewhere=False)  # the only other host may be the worse one
            await _end(new)
            await first_of(old.task, self.clock.sleep(self.backoff.next_delay_s()))
            return
        if old.task.done():
            self._over(old)
        self._switch(old, new, handover, due)
        await _end(old)

    async def _deliver_both(self, old: Link, new: Link, handover: Handover, due: _Due) -> bool:
        """Wait until the new link delivers what the old one does; False if one of them ends first, or it takes long.

        Streams that rest, or died on the old link, need only be confirmed. A stream that sends on the old link and not
        on the new one is never given up. If the old link's server is at fault, the new link must have sent something.
        """
        began = self.clock.now()
        complete: float | None = None
        while not (old.task.done() or new.task.done()):
            now = self.clock.now()
            if self.wanted <= new.active:
                complete = now if complete is None else complete
                lively = {each for each in self.wanted if self.is_lively(each, self.policy.overlap_s)}
                if handover.joined() >= lively and (handover.began or not due.elsewhere):
                    return True
                if now - complete >= self.policy.overlap_s:
                    return not handover.missing() & lively
            elif now - began >= self.policy.overlap_s + 3 * self.policy.ack_timeout_s:
                return False
            await first_of(old.task, new.task, self.clock.sleep(LOOK_S))
        return False

    def _switch(self, old: Link, new: Link, handover: Handover, due: _Due) -> None:
        """Let the new link count from here on. A stream may lack something if the two did not meet on it."""
        self.link, self.successor = new, None
        self.handover_ends = self.clock.now() + self.policy.overlap_s
        self._forget_due()
        self._forgive(old)
        self.report.host = new.host.name
        self.report.rotations += 1
        self.report.last_rotation = due.reason
        self.on_connection(new.host.name, None)
        self._state("live" if new.is_open else "connecting")
        rested = old.active - handover.began.keys() if not old.task.done() else set()
        unproven = new.active - handover.joined() - rested
        if unproven:
            self.on_subscribed(unproven)
        for arrival in handover.release():
            self.work.put(self.on_frame(arrival.frame))

    # --- what the links report ---

    def _opened(self, link: Link) -> None:
        self.report.connects += 1
        log.info("stream_connected", extra={"socket": self.name, "host": link.host.name})
        if link is self.link:
            self.on_connection(link.host.name, None)
            self._state("live")

    def _confirmed(self, link: Link, streams: set[str]) -> None:
        if link is self.link:
            self.on_subscribed(streams)

    def _announced(self, link: Link) -> None:
        """Leave a connection that its server is about to close."""
        if link is self.link:
            self.rotate("its server shuts down", elsewhere=True)
        elif link is self.successor:
            link.task.cancel()

    def _frame(self, link: Link, frame: Opened) -> None:
        if link not in self._links():
            return  # it was succeeded
        handover = self._handover()
        event = self.venue.frames.event_of(frame) if handover is not None else None
        if handover is not None and event is not None and link is self.successor:
            handover.hold(Arrival(*event, frame))
        elif handover is None or event is None or handover.is_new(*event, frame.raw):
            self.work.put(self.on_frame(frame))
        if frame.stream in self.wanted:
            self._delivers(link, frame.stream)

    def _handover(self) -> Handover | None:
        """Return the present succession, or the last one while frames may still be repeated."""
        if self.successor is None and self.clock.now() >= self.handover_ends:
            self.handover = None
        return self.handover

    def _delivers(self, link: Link, stream: str) -> None:
        if link.first_data is None:
            self.hosts.worked(link.host)
            self.report.last_error = None
        link.delivered(stream)


def _end_of(link: Link) -> str:
    """Return why a link has ended."""
    error = None if link.task.cancelled() else link.task.exception()
    return error.reason if isinstance(error, ProviderError) else "closed by us"


async def _end(*links: Link) -> None:
    for link in links:
        link.task.cancel()
    await asyncio.gather(*(link.task for link in links), return_exceptions=True)
