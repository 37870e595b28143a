"""Whose request it is, by address, and how much one address may ask.

`X-Forwarded-For` is believed from right to left, and only as long as the hop that wrote it is one of
`TRUSTED_PROXIES`: what stands further left anybody can write.
"""

import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiohttp import web

from orchestrator.clock import Clock
from orchestrator.limiter import TokenBucket
from stream_server.refusals import Refusal

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

BUCKETS_KEPT = 10_000
BURST_S = 2.0
"""An address that was quiet may ask for this many seconds' worth at once."""
ADDRESS = web.RequestKey("address", str)
"""The address that limits count a request by."""
LOOPBACK_NETWORK = "::/64"
"""How `::1` is counted."""
IPV6_PREFIX = 64
"""One subscriber has a whole network of this size."""


def address_of(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address that limits count by. `forwarded` are the `X-Forwarded-For` headers in order."""
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
    """An IP address, with or without port and brackets; None for anything else."""
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
    """A token bucket for each address that has asked lately; `per_s` requests a second, 0 for no limit."""

    per_s: float
    clock: Clock
    burst_s: float = BURST_S
    what: str = "requests"
    """What is counted, in the words of a refusal."""
    buckets: dict[str, TokenBucket] = field(default_factory=dict)
    refused: int = 0

    def check(self, address: str) -> None:
        """Count one request. Raises Refusal 429 when this address asks too often."""
        if not self.per_s:
            return
        burst = max(1.0, self.burst_s * self.per_s)
        bucket = self.buckets.pop(address, None) or TokenBucket(self.per_s, burst, self.clock)
        self.buckets[address] = bucket  # the last one now: who has long been silent is forgotten first
        if len(self.buckets) > BUCKETS_KEPT:
            del self.buckets[next(iter(self.buckets))]
        if not bucket.take():
            self.refused += 1
            message = f"more than {self.per_s:g} {self.what} a second from your address"
            wait_s = bucket.wait_s()
            headers = rate_headers("requests", burst, wait_s, f"w={math.ceil(burst / self.per_s)}")
            raise Refusal("rate_limited", message, 429, retry_after_s=wait_s, headers=headers)

    def exhausted(self, address: str) -> bool:
        """Whether `check` would refuse this address now; counts nothing."""
        bucket = self.buckets.get(address)
        return bucket is not None and bucket.wait_s() > 0


def rate_headers(policy: str, limit: float, reset_s: float, of_what: str) -> dict[str, str]:
    """What a refusal tells of the limit that was met. `of_what` is the policy's window or unit.

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
