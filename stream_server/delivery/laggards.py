"""Clients of which it is not known that they keep up, and what is held for them: until they catch up or are cut."""

from collections.abc import Callable, Sequence

from orchestrator.clock import Clock
from stream_server.delivery.faults import Faults
from stream_server.delivery.outbox import PACE_AGAIN_S, Outbox
from stream_server.delivery.policy import PAUSED_S, HubPolicy, Scheduler
from stream_server.wire.messages import Frame
from stream_server.wire.refusals import TOO_SLOW, Closing

RETRY_BEHIND_S = 0.02
READS_S = 1.0
"""A client that is behind and has taken nothing for longer gets a goodbye alone."""


class Laggards:
    """Hands frames to clients one by one, and looks after those that are behind."""

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
        self.behind: dict[Outbox, None] = {}
        self.swamped: dict[Outbox, None] = {}
        """Not behind, but an answer such as a snapshot has filled their transports."""
        self.retry_due = False
        self.retried_at = 0.0
        self.conflated = 0

    # --- handing over ---

    def hand(self, outbox: Outbox, frames: Sequence[Frame], payload: bytes | None = None) -> None:
        """Send events, whose bytes may be known already, or hold them for a client that is behind."""
        if not frames:
            return
        try:
            if self._is_behind(outbox):
                outbox.hold(frames)
            else:
                outbox.send(frames, payload)
        except Exception as error:  # of one client, which must not harm the others
            self.faults.blame(outbox, error)

    def answer(self, outbox: Outbox, frames: Sequence[Frame], seq: int) -> None:
        """Send an answer, or hold it as one whole at its place in the order."""
        if not frames:
            return
        try:
            if self._is_behind(outbox):
                outbox.hold_in_order(frames, seq)
            else:
                outbox.send(frames)
                if outbox.full():
                    self.swamped[outbox] = None
        except Exception as error:  # as above
            self.faults.blame(outbox, error)

    def _is_behind(self, outbox: Outbox) -> bool:
        if not outbox.behind and outbox.full():
            self.fall_behind(outbox)
        return outbox.behind

    def fall_behind(self, outbox: Outbox, *, paced: bool = False) -> None:
        """Hold back for a client from now on."""
        now = self.clock.now()
        again = outbox.wire.is_websocket and now - outbox.caught_up_at < PACE_AGAIN_S
        try:
            outbox.fall_behind(now, paced=paced or again)
        except Exception as error:  # of one client, which must not harm the others
            self.faults.blame(outbox, error)
        self.behind[outbox] = None
        self._retry_later()

    def forget(self, outbox: Outbox) -> None:
        """Drop a client that has left, and what is held for it."""
        self.behind.pop(outbox, None)
        self.swamped.pop(outbox, None)
        outbox.leave()

    # --- catching up ---

    def _retry_later(self) -> None:
        if not self.retry_due:
            self.scheduler.later(RETRY_BEHIND_S, self.retry)
            self.retry_due = True
            self.retried_at = self.clock.now()

    def retry(self) -> None:
        """Let those catch up whose transport has drained; cut those past their bounds."""
        self.retry_due = False
        now = self.clock.now()
        late_s = now - self.retried_at - RETRY_BEHIND_S
        self.retried_at = now
        try:
            for outbox in list(self.behind):
                try:
                    if late_s >= PAUSED_S:
                        outbox.forgive(late_s, now)  # nobody could take anything while we stood still
                    self._look_after(outbox, now)
                except Exception as error:  # of one client, which must not harm the others
                    self.faults.blame(outbox, error)
            self.shed()
        finally:
            if self.behind:
                self._retry_later()

    def _look_after(self, outbox: Outbox, now: float) -> None:
        patience_s = self.policy.stall_s - self.policy.farewell_s
        if outbox.drained(now):
            self._catch_up(outbox, now)
        elif outbox.held_bytes > self.policy.outbox_bytes or now - outbox.progress_at >= patience_s:
            self.close(outbox, TOO_SLOW)

    def _catch_up(self, outbox: Outbox, now: float) -> None:
        if outbox.paced:
            if outbox.holds_anything():
                self.conflated += outbox.catch_up(outbox.portion_bytes)
                outbox.ask(now)
            return
        del self.behind[outbox]
        outbox.keep_up(now)
        self.conflated += outbox.catch_up()

    def answered(self, outbox: Outbox) -> None:
        """Take a pong: the client has read all that was sent before the ping."""
        now = self.clock.now()
        try:
            outbox.answered(now)
            if outbox.behind and outbox.drained(now):
                self._catch_up(outbox, now)
        except Exception as error:  # of one client, which must not harm the others
            self.faults.blame(outbox, error)

    def let_out(self, outbox: Outbox) -> None:
        """Send at once what is held for a client that reads, because it is about to be dismissed."""
        now = self.clock.now()
        try:
            if outbox.behind and (outbox.drained(now) or now - outbox.progress_at < READS_S):
                self.conflated += outbox.catch_up()
        except Exception as error:  # as above
            self.faults.blame(outbox, error)

    # --- bounds ---

    def shed(self) -> None:
        """Cut those that cost most memory, until what is kept for all is within its bound."""
        costs = {outbox: outbox.held_bytes + self._buffered(outbox) for outbox in (*self.behind, *self.swamped)}
        excess = sum(costs.values()) - self.policy.outbox_total_bytes
        for outbox in sorted(costs, key=costs.__getitem__, reverse=True) if excess > 0 else ():
            excess -= costs[outbox]
            self.close(outbox, TOO_SLOW)
            try:
                outbox.pipe.abort()  # a goodbye would wait behind what must go now
            except Exception as error:  # of one client, which must not harm the others
                self.faults.blame(outbox, error)
            if excess <= 0:
                return

    def _buffered(self, outbox: Outbox) -> int:
        try:
            return outbox.pipe.buffered()
        except Exception as error:  # as above
            self.faults.blame(outbox, error)
            return 0

    def look_at_swamped(self) -> None:
        """Forget those whose transports have emptied since; cut some if the others cost too much."""
        self.swamped = {each: None for each in self.swamped if not each.behind and self._is_full(each)}
        if self.swamped:
            self.shed()

    def _is_full(self, outbox: Outbox) -> bool:
        try:
            return outbox.full()
        except Exception as error:  # as above
            self.faults.blame(outbox, error)
            return False

    def find_stuck(self, outbox: Outbox) -> None:
        """Hold back for a client whose transport has not drained since the last look."""
        if outbox.behind:
            return
        buffered = self._buffered(outbox)
        if buffered and outbox.last_buffered:
            self.fall_behind(outbox)
        else:
            outbox.note_buffered(buffered)
