"""The protocol of one WebSocket client: messages in, answers into its outbox. It knows no socket."""

import codecs
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import orjson

from feeds.symbols import Symbols
from orchestrator.clock import Clock
from orchestrator.limiter import TokenBucket
from stream_server import PROTOCOL, __version__
from stream_server.delivery.fields import Fields, shown
from stream_server.delivery.hub import Hub
from stream_server.delivery.outbox import Outbox
from stream_server.delivery.selectors import check_limit, extra_cost, resolve, sentences
from stream_server.wire import messages
from stream_server.wire.messages import Frame, Wire
from stream_server.wire.refusals import PROTOCOL_ABUSE, TOO_MANY_REQUESTS, TOO_SLOW, TOPIC_LIMIT, Refusal

MAX_MESSAGE_BYTES = 16 * 1024
OPS_PER_S = 20.0
OPS_BURST = 50.0
TOPICS_AN_OP = 1000
"""This many topics in an answer, or in a changed selection, cost as much as another message."""
PARTS_AN_OP = 100
"""This many parts of one message cost as much as another message."""
MAX_STRIKES = 100
"""Number of wrong messages in a row that end the connection."""

PING_TEXTS = ("ping", b"ping")
"""The pings that clients of other services send as text."""

OPS = ("subscribe", "unsubscribe", "snapshot", "ping")


def hello(epoch: str, heartbeat_s: float, now_ms: int) -> Frame:
    """Return the first message of every stream; its `now` lets a client compute ages by our clock."""
    fields = {
        "protocol": PROTOCOL,
        "server": f"stream-server/{__version__}",
        "epoch": epoch,
        "heartbeat_s": heartbeat_s,
        "now": now_ms,
    }
    return messages.control("hello", fields)


class Session:
    """Reads one client's messages. A wrong message costs an `error`, and nothing else."""

    __slots__ = (
        "bucket",
        "clock",
        "heartbeat_s",
        "hub",
        "inflates",
        "may_read",
        "outbox",
        "refusals",
        "strikes",
        "symbols",
    )

    def __init__(
        self,
        hub: Hub,
        outbox: Outbox,
        symbols: Symbols,
        clock: Clock,
        heartbeat_s: float,
        inflates: bool = False,
        may_read: Callable[[str], bool] | None = None,
        refusals: Counter[str] | None = None,
    ) -> None:
        """`may_read` returns whether the client may have a topic or pattern (None: all). `refusals` counts by code."""
        self.hub = hub
        self.outbox = outbox
        self.symbols = symbols
        self.clock = clock
        self.heartbeat_s = heartbeat_s
        self.bucket = TokenBucket(OPS_PER_S, OPS_BURST, clock)
        self.inflates = inflates
        self.may_read = may_read
        self.refusals = Counter() if refusals is None else refusals
        self.strikes = 0

    def batch(self, wanted: bool) -> None:
        """Send one JSON array a flush from now on, or one frame a message; compressed if the client inflates."""
        batched = Wire.WEBSOCKET_DEFLATE if self.inflates else Wire.WEBSOCKET_BATCH
        self.hub.members.rewire(self.outbox, batched if wanted else Wire.WEBSOCKET)

    def open(self, selectors: Sequence[str], since: str | None, interval_ms: int) -> None:
        """Greet the client, and subscribe it to what its URL asks for."""
        self.hub.members.join(self.outbox)
        self._send(hello(self.hub.epoch, self.heartbeat_s, self.clock.wall_ms()))
        if selectors:
            self._select(selectors, since, interval_ms, None)

    def receive(self, text: str | bytes, parts: int = 1) -> None:
        """Take one text message that came in so many parts."""
        if not self.admit(parts):
            return
        if text.strip() in PING_TEXTS:
            # As plain text, as it was asked, also to a client that gets arrays.
            self.hub.members.write(self.outbox, messages.websocket_frame(0x81, b"pong"))
            self.strikes = 0
            return
        req: object = None
        try:
            message = self._parse(text)
            fields = Fields(message)
            req = fields.req()
            op = message.get("op", "ping" if message.get("type") == "ping" else None)
            match op:
                case "subscribe":
                    self._subscribe(fields, req)
                case "unsubscribe":
                    self._unsubscribe(fields, req)
                case "snapshot":
                    self._snapshot(fields, req)
                case "ping":
                    fields.check()
                    self._send(messages.control("pong", {"ts": self.clock.wall_ms(), "req": req}))
                case _:
                    fields.wrong("op", f"op {shown(op)} is not one of {', '.join(OPS)}", "unknown_op")
                    fields.check()
            self.strikes = 0
        except Refusal as refusal:
            self.refuse(refusal, req)

    def admit(self, parts: int = 1) -> bool:
        """Count one message or ping against the client's rate; over it close the connection and return False."""
        if self.outbox.closed:
            return False
        if self.outbox.held_bytes > self.hub.policy.outbox_bytes:
            # The hub checks that fifty times a second, and each of many messages that arrive together may ask for all.
            self.hub.members.close(self.outbox, TOO_SLOW)
            return False
        return self._pay(1.0 + parts // PARTS_AN_OP)

    def _pay(self, ops: float) -> bool:
        if not self.bucket.take(ops):
            self.hub.members.close(self.outbox, TOO_MANY_REQUESTS, after_ms=5000)
            return False
        return True

    def refuse(self, refusal: Refusal, req: object = None) -> None:
        """Answer with an error; close the connection after too many in a row."""
        self.refusals[refusal.code] += 1
        fields: dict[str, object] = {"code": refusal.code, "message": refusal.message, "req": req}
        self._send(messages.control("error", fields | refusal.details))
        self.strikes += 1
        if self.strikes >= MAX_STRIKES:
            self.hub.members.close(self.outbox, PROTOCOL_ABUSE)

    # --- operations ---

    def _subscribe(self, fields: Fields, req: object) -> None:
        since, interval_ms, batch, wanted = fields.since(), fields.interval_ms(), fields.batch(), fields.topics()
        fields.check()
        if batch is not None:
            self.batch(batch)
        self._select(wanted, since, interval_ms, req)

    def _select(self, selectors: Sequence[str], since: str | None, interval_ms: int, req: object) -> None:
        if not self._pay(extra_cost(selectors)):
            return
        try:
            good, bad = resolve(selectors, self.symbols)
            check_limit({**self.hub.members.selection_of(self.outbox), **dict.fromkeys(good, 0)})
        except Refusal as refusal:
            self.refuse(refusal, req)
            self.hub.members.close(self.outbox, TOPIC_LIMIT)
            return
        self._refuse_topics(bad, req)
        good = self._permitted(good, req)
        if good and not self.outbox.closed:
            self.hub.subscribe(self.outbox, good, since, interval_ms, req)
            self._pay(self.hub.members.reach(self.outbox) // TOPICS_AN_OP)

    def _refuse_topics(self, bad: Mapping[str, str], req: object) -> None:
        if bad:
            self.refuse(Refusal("unknown_topic", sentences(bad), details={"topics": list(bad)}), req)

    def _permitted(self, selectors: list[str], req: object) -> list[str]:
        """Return the selectors that this client may read; an error names the others."""
        if self.may_read is None or self.outbox.closed:
            return selectors
        denied = dict.fromkeys(selector for selector in selectors if not self.may_read(selector))
        if denied:
            message = f"this token may not read {', '.join(denied)[:200]}"
            self.refuse(Refusal("forbidden", message, details={"topics": list(denied)}), req)
        return [selector for selector in selectors if selector not in denied]

    def _unsubscribe(self, fields: Fields, req: object) -> None:
        wanted = fields.topics()
        fields.check()
        if not self._pay(extra_cost(wanted)):
            return
        good, bad = resolve(wanted, self.symbols)
        self._refuse_topics(bad, req)
        if self.outbox.closed:
            return
        if not self._pay(self.hub.members.reach(self.outbox) // TOPICS_AN_OP):
            return
        gone = self.hub.unsubscribe(self.outbox, good)
        self._send(messages.control("unsubscribed", {"topics": gone, "req": req}))

    def _snapshot(self, fields: Fields, req: object) -> None:
        wanted = fields.topics()
        fields.check()
        if not self._pay(extra_cost(wanted)):
            return
        good, bad = resolve(wanted, self.symbols)
        self._refuse_topics(bad, req)
        good = self._permitted(good, req)
        if not good or self.outbox.closed:
            return
        self.hub.members.let_out(self.outbox)
        held = self.hub.snapshot(good)
        if not self._pay(len(held) // TOPICS_AN_OP):
            return
        stale = {topic.name for topic in held if topic.stale}
        parts = list(messages.portions(topic.last for topic in held if topic.last is not None)) or [[]]
        for number, part in enumerate(parts, 1):
            answer = {
                "id": self.hub.position,
                "topics": good,
                "events": [orjson.Fragment(frame.json) for frame in part],
                "stale": [frame.topic for frame in part if frame.topic in stale],
                "req": req,
            }
            self._send(messages.control("snapshot", answer if number == len(parts) else answer | {"more": True}))

    # --- reading ---

    def _parse(self, text: str | bytes) -> dict[str, object]:
        data = text.encode() if isinstance(text, str) else text
        try:
            message = orjson.loads(data.removeprefix(codecs.BOM_UTF8))
        except orjson.JSONDecodeError as error:
            raise Refusal("bad_json", f"message {shown(text)} is not JSON: {error}") from None
        if not isinstance(message, dict):
            raise Refusal("bad_request", f"message {shown(text)} is not a JSON object")
        return message

    def _send(self, frame: Frame) -> None:
        self.hub.members.send_to(self.outbox, [frame])
