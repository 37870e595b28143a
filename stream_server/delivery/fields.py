"""Read the fields of a WebSocket client's message, and refuse all wrong ones at once."""

from collections.abc import Mapping

import orjson

from stream_server.wire.refusals import Refusal

MAX_INTERVAL_MS = 3_600_000
MAX_REQ_CHARS = 64
SHOWN_CHARS = 80
"""The most characters of a client's own words that an error repeats."""


class Fields:
    """Read the fields of one message. Unknown fields are ignored, and null counts as not given."""

    def __init__(self, message: Mapping[str, object]) -> None:
        self.message = message
        self.problems: dict[str, tuple[str, str]] = {}

    def wrong(self, name: str, message: str, code: str = "bad_request") -> None:
        """Note a problem with one field; the first problem counts."""
        self.problems.setdefault(name, (code, message))

    def check(self) -> None:
        """Raise one Refusal for all problems."""
        if self.problems:
            codes = {code for code, _ in self.problems.values()}
            code = codes.pop() if len(codes) == 1 else "bad_request"
            raise Refusal(code, "; ".join(message for _, message in self.problems.values()))

    def req(self) -> object:
        """Return the client's name for this message, which the answer repeats; None if there is none."""
        req = self.message.get("req")
        is_number = isinstance(req, int | float) and not isinstance(req, bool)
        if req is None or is_number or (isinstance(req, str) and len(req) <= MAX_REQ_CHARS):
            return req
        self.wrong("req", f"req must be a number or a text of up to {MAX_REQ_CHARS} characters, not {shown(req)}")
        return None

    def topics(self) -> list[str]:
        """Return the topics and patterns as the client spelled them; at least one must be named."""
        wanted = self.message.get("topics")
        if not isinstance(wanted, list) or not wanted:
            self.wrong("topics", f"topics must be a list of topic names, not {shown(wanted)}")
            return []
        odd = [each for each in wanted if not isinstance(each, str)]
        if odd:
            self.wrong("topics", f"topics must hold texts, not {shown(odd[0])}")
            return []
        return wanted

    def since(self) -> str | None:
        """Return the position to resume from, under any of its names."""
        named = {name: value for name, value in self.message.items() if name == "since" or is_last_event_id(name)}
        for name, value in named.items():
            if value is not None and not isinstance(value, str):
                self.wrong(name, f"{name} must be an id, not {shown(value)}")
        since = named.pop("since", None)
        texts = [value for value in (since, *named.values()) if isinstance(value, str) and value]
        return texts[-1] if texts else None

    def interval_ms(self) -> int:
        """Return the least time between two values of a topic, 0 if it is not given."""
        value = self.message.get("interval_ms")
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # some languages know one kind of number only
        if value is None:
            return 0
        if not isinstance(value, int) or isinstance(value, bool):
            self.wrong("interval_ms", f"interval_ms must be a whole number, not {shown(value)}")
            return 0
        if not 0 <= value <= MAX_INTERVAL_MS:
            self.wrong("interval_ms", f"interval_ms must be from 0 to {MAX_INTERVAL_MS}, not {shown(value)}")
        return value

    def batch(self) -> bool | None:
        """Return whether messages shall come in arrays; None if it is not given."""
        value = self.message.get("batch")
        if value is None or isinstance(value, bool):
            return value
        self.wrong("batch", f"batch must be true or false, not {shown(value)}")
        return None


def is_last_event_id(name: str) -> bool:
    """Return whether a field or parameter is a `Last-Event-ID`, which libraries spell in many ways."""
    return name.replace("-", "").replace("_", "").lower() == "lasteventid"


def shown(value: object) -> str:
    """Return a client's input as an error repeats it: as JSON, and cut to `SHOWN_CHARS`."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        text = value if len(value) <= SHOWN_CHARS else value[:SHOWN_CHARS] + "…"
        return repr(text)
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return type(value).__name__
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"
