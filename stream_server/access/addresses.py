"""Find the address that a request comes from, and count what each address asks and holds.

`X-Forwarded-For` is read from right to left, as long as the hop that wrote an entry is one of `TRUSTED_PROXIES`.
Anybody can write what stands further left.
"""

import ipaddress
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiohttp import web

from orchestrator.clock import Clock
from orchestrator.limiter import TokenBucket
from stream_server.wire.refusals import Refusal

CONNECTIONS_PER_IP = 256
REST_RATE_PER_S = 50.0
"""The limits of one address if the settings do not set any: enough for many visitors behind one router."""
SLACK = 8
"""Connections of an address above its limit that we still read from, so that each gets a refusal it understands."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

BUCKETS_KEPT = 10_000
BURST_S = 2.0
"""An address that was quiet may ask for this many seconds' worth at once."""
ADDRESS = web.RequestKey("address", str)
"""The address that limits count a request by; the guard sets it."""
LOOPBACK_NETWORK = "::/64"
"""The address that `::1` is counted as."""
IPV6_PREFIX = 64
"""Bits of an IPv6 address that count. One subscriber has the whole network behind them."""


NEAR = tuple(
    ipaddress.ip_network(each)
    for each in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""This machine and private networks. A peer there may be a proxy that no setting names, with every client behind it, so
default limits do not count it."""


def scheme_of(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return the scheme of the URL of a page: `X-Forwarded-Proto` of a trusted proxy, or else `http`."""
    nearest = read_address(peer)
    if nearest is None or not forwarded or not any(nearest in network for network in trusted):
        return "http"
    return forwarded[-1].rpartition(",")[2].strip().lower()


def is_exempt(peer: str, address: str, trusted: Sequence[Network]) -> bool:
    """Return whether default limits do not count a connection from `peer` whose client has this `address`."""
    nearest = read_address(peer)
    if nearest is None:
        return True  # a Unix socket has no address
    return _counted(nearest, peer) == address and any(nearest in network for network in (*NEAR, *trusted))


@dataclass(slots=True)
class Connections:
    """Count connections by the address at their other end, from their acceptance on."""

    most: int
    """Connections of one address; 0 for no limit."""
    trusted: Sequence[Network]
    spares_near: bool
    """Whether private networks have no limit, which is so if the settings do not set one."""
    by_peer: Counter[str] = field(default_factory=Counter)
    refused: int = 0

    def enter(self, peername: object) -> str:
        """Count a connection in. Return what `leave` needs; an empty text if the connection is not counted.

        A trusted proxy is not counted, because it brings many clients.
        """
        peer = str(peername[0]) if isinstance(peername, tuple) else ""
        found = read_address(peer)
        spared = (*self.trusted, *NEAR) if self.spares_near else self.trusted
        if not self.most or found is None or any(found in network for network in spared):
            return ""
        key = _counted(found, peer)
        self.by_peer[key] += 1
        return key

    def excess(self, key: str) -> int:
        """Return how many connections an address has above its limit."""
        return max(0, self.by_peer[key] - self.most) if key else 0

    def leave(self, key: str) -> None:
        """Count a connection out; `key` is what `enter` returned."""
        if key:
            self.by_peer[key] -= 1
            if not self.by_peer[key]:
                del self.by_peer[key]


def address_of(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """Return the address that limits count by. `forwarded` are the `X-Forwarded-For` headers in order."""
    nearest = read_address(peer)
    if nearest is None or not trusted:
        return _counted(nearest, peer)
    hops = [hop.strip() for header in forwarded for hop in header.split(",")]
    while hops and any(nearest in network for network in trusted):
        further = read_address(hops.pop())
        if further is None:
            break
        nearest = further
    return _counted(nearest, peer)


def read_address(text: str) -> Address | None:
    """Parse an IP address with or without port and brackets; return None for anything else."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_loopback(address: str) -> bool:
    """Return whether an address is this machine's own, also as limits count it."""
    found = read_address(address)
    return address == LOOPBACK_NETWORK or (found is not None and found.is_loopback)


def _counted(address: Address | None, otherwise: str) -> str:
    if address is None:
        return otherwise
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)


@dataclass(slots=True)
class RequestRates:
    """Limit the requests of each address by a token bucket; forget the addresses that have been quiet longest."""

    per_s: float
    """Requests a second; 0 for no limit."""
    clock: Clock
    burst_s: float = BURST_S
    what: str = "requests"
    """What is counted, as a refusal names it."""
    buckets: dict[str, TokenBucket] = field(default_factory=dict)
    refused: int = 0

    def check(self, address: str, cost: int = 1) -> None:
        """Count a request, which may cost as much as several. An empty address has no limit.

        Raises: Refusal 429 if this address asks too often.
        """
        if not self.per_s or not address:
            return
        burst = max(1.0, self.burst_s * self.per_s)
        bucket = self.buckets.pop(address, None) or TokenBucket(self.per_s, burst, self.clock)
        self.buckets[address] = bucket  # now the last one: the first ones are forgotten first
        if len(self.buckets) > BUCKETS_KEPT:
            del self.buckets[next(iter(self.buckets))]
        if not bucket.take(min(cost, burst)):
            self.refused += 1
            message = f"more than {self.per_s:g} {self.what} a second from your address"
            wait_s = bucket.wait_s()
            headers = rate_headers("requests", burst, wait_s, f"w={math.ceil(burst / self.per_s)}")
            raise Refusal("rate_limited", message, 429, retry_after_s=wait_s, headers=headers)

    def exhausted(self, address: str) -> bool:
        """Return whether `check` would refuse this address now, without counting a request."""
        bucket = self.buckets.get(address)
        return bucket is not None and bucket.wait_s() > 0


def rate_headers(policy: str, limit: float, reset_s: float, of_what: str) -> dict[str, str]:
    """Return the headers that describe the limit behind a refusal. `of_what` is the window or unit of the policy.

    Source: draft-ietf-httpapi-ratelimit-headers-10 for the first two, and -06 for those that more clients read.
    """
    seconds = max(1, math.ceil(reset_s))
    return {
        "RateLimit-Policy": f'"{policy}";q={limit:.0f};{of_what}',
        "RateLimit": f'"{policy}";r=0;t={seconds}',
        "RateLimit-Limit": f"{limit:.0f}",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": str(seconds),
    }
