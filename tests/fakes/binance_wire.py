"""WebSocket frames of the fake Binance. Nothing about markets; its HTTP is `http_wire`."""

from __future__ import annotations

TEXT = 0x1
BINARY = 0x2


def websocket_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """A whole, unmasked server frame around `payload`, which is sent as it is: valid or not."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, size))
    elif size < 65_536:
        head = bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big")
    return head + payload
