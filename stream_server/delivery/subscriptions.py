"""Subscribe clients: send what a client lacks of the topics it adds, and from there on all that is published.

`subscribe` is one synchronous block that registers, reads the snapshot and its position, and enqueues both. No event
can fall between snapshot and live, or into both, because nothing else runs in that block. A property test checks it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from feeds import topics
from stream_server.delivery import resume
from stream_server.delivery.freshness import Freshness
from stream_server.delivery.interest import Interest
from stream_server.delivery.members import Members, Order
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.resume import Cursor
from stream_server.delivery.topic_history import TopicHistory
from stream_server.delivery.topic_store import TopicStore
from stream_server.delivery.word_trees import PatternTree
from stream_server.wire import messages
from stream_server.wire.messages import Frame

NAMED_IN_AN_ERROR = 10


class Subscriptions:
    """Answers `subscribe` and `unsubscribe`, and asks the feeds for the topics that clients name."""

    def __init__(
        self,
        order: Order,
        store: TopicStore,
        freshness: Freshness,
        interest: Interest,
        members: Members,
        drop_idle: Callable[[float], None],
    ) -> None:
        """`drop_idle` drops the topics that are idle at a time, which makes room for new ones on demand."""
        self.order = order
        self.store = store
        self.freshness = freshness
        self.interest = interest
        self.members = members
        self.drop_idle = drop_idle
        self.resumes: Counter[str] = Counter()
        """Number of subscriptions with a cursor by outcome: `resumed`, or the reason why not."""
        self.gaps: Counter[str] = Counter()
        """Number of gaps that clients were sent, by reason: once for each client and topic."""

    def subscribe(
        self, outbox: Outbox, selectors: Sequence[str], since: str | None, interval_ms: int, req: object
    ) -> None:
        """Add canonical selectors to a client's selection and send it what it lacks, up to now.

        Topics that the client receives already are not sent again. The answer is `subscribed`, values, `synced`.
        """
        if outbox not in self.members.by_outbox:
            return
        self.freshness.expire()
        selectors = self._within_demand(outbox, selectors, req)
        cursor = Cursor.read(since, self.order.epoch, self.order.seq)
        known = self.members.heard_by(outbox)
        before = self.members.selection_of(outbox)
        gained = [selector for selector in selectors if selector not in before and topics.is_fed(selector)]
        group = self.members.select(outbox, {**before, **dict.fromkeys(selectors, interval_ms)})
        held = self.store.by_name
        added = [held[name] for name in group.listens if name not in known and name in held]
        reason = cursor.reason
        if cursor.seq is not None and reason is None and self.store.may_lack(added, gained, cursor.seq):
            reason = "evicted"
        if reason != "no_cursor":
            self.resumes[reason or "resumed"] += 1
        if reason is None or since == resume.EARLIEST:
            updates = resume.since(added, group.listens, self.order.epoch, cursor.or_start)
        else:
            updates = [topic.last for topic in added if topic.last is not None]
        updates.sort(key=lambda frame: frame.seq)
        answer = {
            "topics": list(selectors),
            "resumed": reason is None,
            "reason": reason,
            "from": since,
            "to": self.order.position,
            "count": sum(not frame.event for frame in updates),
            "req": req,
        }
        frames = [messages.control("subscribed", answer)]
        if reason in ("epoch", "evicted"):
            frames += self._gaps(added, self._unheard(gained, before), cursor, reason, since)
        frames += updates
        frames += [self.freshness.message(topic, "stale", topic.stale_reason) for topic in added if topic.stale]
        position = self.order.position
        frames.append(messages.control("synced", {"id": position, "req": req}, cursor=position))
        self.members.send_to(outbox, frames)
        self._gain_interest(gained)

    def unsubscribe(self, outbox: Outbox, selectors: Iterable[str]) -> list[str]:
        """Remove selectors from a client's selection; return those that were in it."""
        selection = self.members.selection_of(outbox)
        gone = {selector: None for selector in selectors if selector in selection}
        if gone:
            rest = {selector: ms for selector, ms in selection.items() if selector not in gone}
            group = self.members.select(outbox, rest)
            outbox.backlog.keep_only(group.listens)
            self.interest.lose(gone)
        return list(gone)

    def _within_demand(self, outbox: Outbox, selectors: Sequence[str], req: object) -> Sequence[str]:
        """Return the selectors without those that would start too much upstream; an error names these."""
        selection = self.members.selection_of(outbox)
        new = [selector for selector in selectors if selector not in selection and topics.is_fed(selector)]
        if self.interest.demand.is_full():
            self.drop_idle(math.inf)
        refused = self.interest.demand.charge(new, outbox.account)
        if not refused:
            return selectors
        named = ", ".join(map(repr, refused[:NAMED_IN_AN_ERROR])) + (", …" if len(refused) > NAMED_IN_AN_ERROR else "")
        message = f"no more topics are started on demand now; not subscribed: {named}"
        fields = {"code": "demand_limit", "message": message, "topics": refused, "req": req}
        self.members.send_to(outbox, [messages.control("error", fields)])
        left_out = set(refused)
        return [selector for selector in selectors if selector not in left_out]

    def _unheard(self, gained: Iterable[str], before: Iterable[str]) -> list[str]:
        """Return the new names that are unknown, without those that a pattern of before covers."""
        patterns: PatternTree[str] = PatternTree()
        for selector in filter(topics.is_pattern, before):
            patterns.put(selector, selector)
        return [name for name in gained if name not in self.store.by_name and not patterns.matching(name)]

    def _gaps(
        self, added: Sequence[TopicHistory], unheard: Iterable[str], cursor: Cursor, reason: str, since: str | None
    ) -> list[Frame]:
        """Return a `gap` for each topic of which a log event may be missing."""
        firsts = resume.first_after_gap(added, unheard, cursor, self.order.position, self.store.forgotten_at)
        self.gaps[reason] += len(firsts)
        return [
            messages.control("gap", {"topic": name, "reason": reason, "from": since, "to": first})
            for name, first in firsts.items()
        ]

    def _gain_interest(self, names: Iterable[str]) -> None:
        for name in names:
            if self.interest.gain(name):
                self.store.bring_again(name, self.order.seq)
            self.interest.want(name)
