"""Clients that may not keep up, and what is held for them until they catch up or are cut."""

from collections.abc import Callable, Sequence

from orchestrator.clock import Clock
from stream_server.delivery.faults import Faults
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.pacing import PACE_AGAIN_S
from stream_server.delivery.policy import PAUSED_S, HubPolicy, Scheduler
from stream_server.wire.messages import Frame
from stream_server.wire.refusals import TOO_SLOW, Closing

RETRY_S = 0.02
READS_S = 1.0
"""A lagging client that has taken nothing for longer gets a goodbye alone."""


class Laggards:
    """Sends frames to clients one by one, or holds them, and looks after the clients that lag."""

    def __init__(
        self,
        clock: Clock,
        scheduler: Scheduler,
        policy: HubPolicy,
        faults: Faults,
        close: Callable[[Outbox, Closing], None],
    ) -> None:
        """`close` ends a client's connection with a goodbye."""
        self.clock = clock
        self.scheduler = scheduler
        self.policy = policy
        self.faults = faults
        self.close = close
        self.lagging: dict[Outbox, None] = {}
        self.full: dict[Outbox, None] = {}
        """Clients that do not lag, but whose transport an answer such as a snapshot has filled."""
        self.retry_due = False
        self.retried_at = 0.0
        self.conflated = 0
        """Number of values that newer ones have replaced in a backlog."""

    # --- sending ---

    def send_or_hold(
        self,
        outbox: Outbox,
        frames: Sequence[Frame],
        payload: bytes | None = None,
        *,
        as_answer_at: int | None = None,
    ) -> None:
        """Send frames, whose bytes may be known already, or hold them for a client that lags.

        An answer is held as one whole, at its place in the order.
        """
        if not frames:
            return
        try:
            if self._is_lagging(outbox):
                if as_answer_at is None:
                    outbox.hold(frames)
                else:
                    outbox.backlog.hold_together(frames, as_answer_at)
            else:
                outbox.send(frames, payload)
                if as_answer_at is not None and outbox.is_full():
                    self.full[outbox] = None
        except Exception as error:  # a `with` block would show in the fan-out to SSE clients
            self.faults.blame(outbox, error)

    def _is_lagging(self, outbox: Outbox) -> bool:
        if not outbox.lagging and outbox.is_full():
            self.fall_behind(outbox)
        return outbox.lagging

    def fall_behind(self, outbox: Outbox, *, paced: bool = False) -> None:
        """Hold back for a client from now on."""
        now = self.clock.now()
        again = outbox.wire.is_websocket and now - outbox.caught_up_at < PACE_AGAIN_S
        with self.faults.contained(outbox):
            outbox.fall_behind(now, paced=paced or again)
        self.lagging[outbox] = None
        self._retry_later()

    def forget(self, outbox: Outbox) -> None:
        """Drop a client that has left, and what is held for it."""
        self.lagging.pop(outbox, None)
        self.full.pop(outbox, None)
        outbox.leave()

    # --- catching up ---

    def _retry_later(self) -> None:
        if not self.retry_due:
            self.scheduler.later(RETRY_S, self.retry)
            self.retry_due = True
            self.retried_at = self.clock.now()

    def retry(self) -> None:
        """Send what is held to the clients whose transport has drained; cut those past their bounds."""
        self.retry_due = False
        now = self.clock.now()
        late_s = now - self.retried_at - RETRY_S
        self.retried_at = now
        try:
            for outbox in list(self.lagging):
                with self.faults.contained(outbox):
                    if late_s >= PAUSED_S:
                        outbox.forgive(late_s, now)  # no client could take anything while the process stood still
                    self._look_after(outbox, now)
            self.shed()
        finally:
            if self.lagging:
                self._retry_later()

    def _look_after(self, outbox: Outbox, now: float) -> None:
        patience_s = self.policy.stall_s - self.policy.farewell_s
        if outbox.drained(now):
            self._catch_up(outbox, now)
        elif outbox.held_bytes > self.policy.outbox_bytes or now - outbox.progress_at >= patience_s:
            self.close(outbox, TOO_SLOW)

    def _catch_up(self, outbox: Outbox, now: float) -> None:
        if outbox.paced:
            if outbox.backlog:
                self.conflated += outbox.catch_up(outbox.pacer.portion_bytes)
                outbox.ask(now)
            return
        del self.lagging[outbox]
        outbox.keep_up(now)
        self.conflated += outbox.catch_up()

    def answered(self, outbox: Outbox) -> None:
        """Take a pong: the client has read all that was sent before the ping."""
        now = self.clock.now()
        with self.faults.contained(outbox):
            outbox.answered(now)
            if outbox.lagging and outbox.drained(now):
                self._catch_up(outbox, now)

    def let_out(self, outbox: Outbox) -> None:
        """Send at once what is held for a client that reads, because it is about to be dismissed."""
        now = self.clock.now()
        with self.faults.contained(outbox):
            if outbox.lagging and (outbox.drained(now) or now - outbox.progress_at < READS_S):
                self.conflated += outbox.catch_up()

    # --- bounds ---

    def shed(self) -> None:
        """Cut the clients that cost most memory, until what is kept for all is within its bound."""
        costs = {outbox: outbox.held_bytes + self._buffered(outbox) for outbox in (*self.lagging, *self.full)}
        excess = sum(costs.values()) - self.policy.outbox_total_bytes
        for outbox in sorted(costs, key=costs.__getitem__, reverse=True) if excess > 0 else ():
            excess -= costs[outbox]
            self.close(outbox, TOO_SLOW)
            with self.faults.contained(outbox):
                outbox.pipe.abort()  # a goodbye would wait behind the bytes that must go now
            if excess <= 0:
                return

    def _buffered(self, outbox: Outbox) -> int:
        """Return what a client's transport holds; 0 for one that cannot say."""
        with self.faults.contained(outbox):
            return outbox.pipe.buffered()
        return 0

    def review_full(self) -> None:
        """Forget the clients whose transports have emptied since; cut some if the others cost too much."""
        self.full = {each: None for each in self.full if not each.lagging and self._is_full(each)}
        if self.full:
            self.shed()

    def _is_full(self, outbox: Outbox) -> bool:
        with self.faults.contained(outbox):
            return outbox.is_full()
        return False

    def find_stuck(self, outbox: Outbox) -> None:
        """Hold back for a client whose transport has not drained since the last look."""
        if outbox.lagging:
            return
        buffered = self._buffered(outbox)
        if buffered and outbox.last_buffered:
            self.fall_behind(outbox)
        else:
            outbox.note_buffered(buffered)
