"""Open the port on every address that the setting `HOST` stands for, and create the protocol of each connection."""

import asyncio
import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from stream_server.connections import descriptors
from stream_server.connections.aiohttp_connection import Connection
from stream_server.connections.front import ENTER_A_TURN, Front
from stream_server.connections.turnstile import Turnstile
from stream_server.context import Context

BOTH_FAMILIES = ("*", "::")
"""Hosts that mean every address, of IPv4 and of IPv6; asyncio by itself would leave IPv4 out of the second."""
NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
BACKLOG = 4096
"""The default of 128 would turn a storm of reconnects into refusals."""
KEEPALIVE_S = 75.0
"""How long an idle connection stays open. Proxies close theirs to us sooner, so none is closed under a request."""
LINGERING_S = 2.0
"""How long the rest of a body is read that nobody wants."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Hold the servers of the open port, one for each address family."""

    servers: Sequence[asyncio.Server]

    @property
    def sockname(self) -> tuple[str, int]:
        """Return the address and the port of the first socket."""
        host, port, *_ = self.servers[0].sockets[0].getsockname()
        return host, port

    def close(self) -> None:
        """Take no more connections; those that are open stay."""
        for server in self.servers:
            server.close()


async def listen(runner: web.AppRunner, context: Context, ports: Sequence[socket.socket] | None = None) -> Listener:
    """Serve on these ports, by default on those of the settings. Raises OSError if they are taken."""
    stock = runner.server
    assert stock is not None  # noqa: S101 - the runner has been set up
    loop = asyncio.get_running_loop()
    heavy = partial(
        Connection,
        context,
        stock,
        loop=loop,
        access_log=None,
        keepalive_timeout=KEEPALIVE_S,
        lingering_time=LINGERING_S,
        auto_decompress=False,
    )
    turnstile = Turnstile(ENTER_A_TURN)
    if ports is None:
        ports = open_ports(context.settings.host, context.settings.port)
    servers = []
    for port in ports:
        # Connections inherit it. asyncio sets it only for ports that it has opened; without it the kernel may hold
        # a message back until the client has acknowledged the one before, for up to 40 ms.
        port.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = await loop.create_server(
            lambda: Front(context, heavy, turnstile), sock=port, backlog=descriptors.ACCEPTS_A_TURN
        )
        # asyncio takes one number for both: how many wait in the kernel, and how many are accepted in one turn.
        port.listen(BACKLOG)
        servers.append(server)
    listener = Listener(servers)
    context.probe.listens(listener.sockname)
    return listener


def open_ports(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of a host. Raises OSError if its port is taken or nobody knows the host."""
    host = without_brackets(host)
    if host in BOTH_FAMILIES:
        both = both_families(port)
        if both is not None:
            return [both]
    if host == "*":
        host = "0.0.0.0"  # noqa: S104 - as asked
    opened: list[socket.socket] = []
    missing: OSError | None = None
    for family, address in _addresses(host, port):
        try:
            opened.append(socket.create_server(address, family=family))
        except OSError as error:
            if error.errno not in NO_SUCH_FAMILY:
                for each in opened:
                    each.close()
                raise
            missing = error  # for example, `localhost` has an address of IPv6, which is switched off
    if not opened and missing is not None:
        raise missing
    return opened


def _addresses(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError:  # for example a name with an empty part
        raise OSError(errno.EINVAL, "is not a host name") from None
    return [(family, address) for family, _, _, _, address in found]


def both_families(port: int) -> socket.socket | None:
    """Return a socket that takes IPv4 and IPv6, None where the system has none. Raises OSError if the port is taken."""
    if not socket.has_dualstack_ipv6():
        return None
    try:
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except OSError as error:
        if error.errno in NO_SUCH_FAMILY:
            return None
        raise


def without_brackets(host: str) -> str:
    """Return a host without the brackets that an IPv6 address has in a URL."""
    inner = host[1:-1]
    return inner if ":" in inner and host == f"[{inner}]" else host


def authority(host: str, port: object) -> str:
    """Return a host and a port as they stand in a URL."""
    host = without_brackets(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(host: str, sockname: Sequence[object]) -> str:
    """Return the URL that a socket is reached by, with the host as it was asked for if it names one."""
    return f"http://{authority(str(sockname[0]) if host == '*' else host, sockname[1])}"
