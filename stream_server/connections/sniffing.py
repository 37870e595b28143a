"""Recognise by its first bytes what a connection is, and read the handshake of a light WebSocket. Does no I/O.

The light layer takes only well-formed handshakes for `/ws`. Everything else, including every odd handshake, is for
aiohttp, which gets the bytes unchanged.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from yarl import URL

from orchestrator.silence import SILENT
from stream_server.access.browsers import SERVER
from stream_server.connections.handshake import SUBPROTOCOLS, subprotocol_of
from stream_server.wire.headers import words_of

MAX_HEAD_BYTES = 16 * 1024
_END = b"\r\n\r\n"
_WEBSOCKET = (b"GET /ws?", b"GET /ws ")
_EVENTS = (b"GET /sse?", b"GET /sse ")


def may_become_handshake(data: bytes) -> bool:
    """Return whether more bytes are needed to know if these begin a handshake for `/ws`."""
    start = data[: len(_WEBSOCKET[0])]
    return any(each.startswith(start) for each in _WEBSOCKET) and _END not in data and len(data) <= MAX_HEAD_BYTES


def asks_for_events(data: bytes) -> bool:
    """Return whether these first bytes ask for `/sse`."""
    return data.startswith(_EVENTS)


@dataclass(frozen=True, slots=True)
class Handshake:
    """A good handshake for `/ws`, and the bytes that came after it."""

    request: Request
    rest: bytes
    protocol: ServerProtocol
    response: Response

    @classmethod
    def read(cls, data: bytes) -> "Handshake | None":
        """Return the handshake that a connection begins with; None for anything that aiohttp should answer."""
        head, end, rest = data.partition(_END)
        if not end or not data.startswith(_WEBSOCKET):
            return None
        protocol = ServerProtocol(
            extensions=[
                ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
            ],
            subprotocols=SUBPROTOCOLS,
            select_subprotocol=lambda _, offered: subprotocol_of(offered),
            logger=SILENT,  # aiohttp answers a refused handshake
        )
        protocol.receive_data(head + end)
        request = next(iter(protocol.events_received()), None)
        if not isinstance(request, Request):
            return None
        if "websocket" in words_of(request.headers.get_all("Upgrade")):
            # The library refuses a handshake that offers another protocol too, such as `h2c, websocket`.
            del request.headers["Upgrade"]
            request.headers["Upgrade"] = "websocket"
        response = protocol.accept(request)
        if response.status_code != 101 or len(request.headers.get_all("Host")) != 1:
            return None
        return cls(request, rest, protocol, response)

    @property
    def url(self) -> URL:
        """Return the path and the query of the request."""
        return URL(self.request.path, encoded=True)

    def header(self, name: str) -> Sequence[str]:
        """Return all values of a header."""
        return self.request.headers.get_all(name)

    def answer(self) -> bytes:
        """Return the bytes that accept the handshake."""
        self.response.headers["Server"] = SERVER["Server"]
        self.protocol.send_response(self.response)
        return b"".join(self.protocol.data_to_send())

    @property
    def deflates(self) -> bool:
        """Return whether the client may compress its messages."""
        return self._deflate is not None

    @property
    def inflates(self) -> bool:
        """Return whether the client can read what zlib compresses with its default window.

        A smaller window would need a compressor for this client alone; such a client gets plain frames.
        """
        deflate = self._deflate
        return deflate is not None and deflate.local_max_window_bits == zlib.MAX_WBITS

    @property
    def _deflate(self) -> PerMessageDeflate | None:
        return next((each for each in self.protocol.extensions if isinstance(each, PerMessageDeflate)), None)
