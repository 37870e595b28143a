"""Open the REST account with an exchange. The feed and the questions of clients share it."""

import random
from collections.abc import Callable

from feeds.exchange.venue import Venue
from orchestrator.bans import BanFile
from orchestrator.clock import Clock
from orchestrator.hosts import Hosts
from orchestrator.http import Transport
from orchestrator.upstream import Upstream
from orchestrator.upstream_policy import UpstreamPolicy


def exchange_account(
    venue: Venue,
    hosts: Hosts,
    transport: Transport,
    clock: Clock,
    rng: random.Random,
    *,
    bans: BanFile | None = None,
    on_change: Callable[[], None] = lambda: None,
    policy: UpstreamPolicy | None = None,
) -> Upstream:
    """Return the account, by the venue's own policy unless another one is given."""
    return Upstream(
        venue.name,
        hosts,
        transport,
        clock,
        rng,
        policy or venue.rest.policy,
        refusal=venue.rest.refusal,
        correct=venue.rest.correct,
        time_in=venue.rest.server_time,
        bans=bans,
        on_change=on_change,
    )
