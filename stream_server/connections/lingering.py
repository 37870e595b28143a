"""Close a connection so that the peer can still read our last bytes.

Closing a socket that holds unread bytes resets the connection, and some systems then drop what they have not read of
ours, such as a close code. So we end our side, keep reading for a moment, and abort if the peer has not closed by then.
"""

import asyncio
import contextlib

CLOSE_GRACE_S = 2.0
"""Seconds that a peer has to read our goodbye and to close, before its connection is aborted."""


def linger(transport: asyncio.Transport) -> None:
    """End our side of a connection, and abort it after `CLOSE_GRACE_S` if the peer has not closed its side."""
    asyncio.get_running_loop().call_later(CLOSE_GRACE_S, transport.abort)
    with contextlib.suppress(RuntimeError, OSError):
        transport.write_eof()


def close(transport: asyncio.Transport) -> None:
    """Close a connection whose peer has sent its closing frame; it may already be closed."""
    with contextlib.suppress(RuntimeError, OSError):
        transport.close()
