"""Serves events to clients over WebSocket, SSE and REST."""

__version__ = "0.1.0"
PROTOCOL = 1
