"""The upstream of every provider: its addresses and key, what it allows, how its refusals are read.

A keyed provider without its key has an upstream too: switched off, with the name of the setting that enables it.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from feeds.paces import Paces
from feeds.providers import (
    alternative_me,
    blockscout,
    coingecko,
    crypto_api_clean,
    crypto_dt_source,
    cryptopanic,
    ethereum_rpc,
    etherscan,
    huggingface,
    lexicon,
    newsapi,
    reddit,
    rss,
)
from orchestrator import http
from orchestrator.bans import BanFile
from orchestrator.clock import Clock
from orchestrator.errors import ProviderError
from orchestrator.hosts import Hosts
from orchestrator.http import HttpResponse, Transport
from orchestrator.limiter import Allowance, spread
from orchestrator.spending import SpendingFile
from orchestrator.upstream import Upstream
from orchestrator.upstream_policy import UpstreamPolicy

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
OWN_SHARE = 0.5
"""The part of an allowance that clients cannot use: the pollers live on it, and all topics on them."""
SMALL_SHARE = 0.3
"""The same where pollers need little of it: they ask a few times a minute, or only when others fail."""
LARGE_SHARE = 0.75
"""The same where an allowance is hardly more than the poller needs."""


@dataclass(frozen=True, slots=True)
class SourcesPolicy:
    """Addresses, keys and paces. URLs are base URLs in the order they are tried; times in seconds."""

    urls: Mapping[str, Sequence[str]]
    """The base URLs of each provider, by its name."""
    rss_feeds: Mapping[str, str]
    keys: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    """The keys, by the name of the setting."""
    market_poll_s: float = 30.0
    news_poll_s: float = 120.0
    sentiment_poll_s: float = 600.0
    gas_poll_s: float = 15.0
    cache_ttl_s: float = 60.0
    stale_if_error_s: float | None = None

    @property
    def paces(self) -> Paces:
        """Return how often the questions behind topics are polled."""
        return Paces(self.market_poll_s, self.news_poll_s, self.sentiment_poll_s, self.gas_poll_s)


class Upstreams(Mapping[str, Upstream]):
    """One `Upstream` for each provider, by name."""

    def __init__(
        self,
        policy: SourcesPolicy,
        exchange_rest: Upstream,
        transport: Transport,
        clock: Clock,
        rng: random.Random,
        bans: BanFile | None,
        spending: SpendingFile | None,
        on_change: Callable[[], None],
    ) -> None:
        self.policy = policy
        self.transport = transport
        self.clock = clock
        self.rng = rng
        self.bans = bans
        self.spending = spending
        self.on_change = on_change
        self.rss = [
            rss.RssFeed(name, url, "social" if name.startswith(reddit.NAME) else "news")
            for name, url in policy.rss_feeds.items()
        ]
        self.by_name: dict[str, Upstream] = {}
        self._add(exchange_rest)
        self._open_all()

    def __getitem__(self, name: str) -> Upstream:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def _add(self, upstream: Upstream) -> None:
        self.by_name[upstream.name] = upstream

    def _open(
        self,
        name: str,
        urls: Sequence[str] | None,
        policy: UpstreamPolicy,
        refusal: Callable[[str, HttpResponse], ProviderError | None] = http.refusal,
        setting: str | None = None,
        optional: str | None = None,
    ) -> None:
        """Add an upstream. One that needs a key (`setting`) and has none is switched off.

        One may have an `optional` key.
        """
        missing = setting is not None and not self.key(setting)
        self._add(
            Upstream(
                name,
                Hosts(list(urls), self.clock) if urls else None,
                self.transport,
                self.clock,
                self.rng,
                policy,
                refusal=refusal,
                disabled=f"set {setting} to enable it" if missing else None,
                keyed=bool(self.key(setting or optional or "")),
                bans=self.bans,
                spending=self.spending,
                on_change=self.on_change,
            )
        )

    def key(self, setting: str) -> str:
        """Return the key of a setting; empty if it has none."""
        return self.policy.keys.get(setting) or ""

    def _open_all(self) -> None:
        urls = self.policy.urls
        # A Demo key allows more than none does; without one the limit is by address and varies.
        free = Allowance(30 if self.key("COINGECKO_DEMO_API_KEY") else 12, 60.0)
        self._open(
            coingecko.NAME,
            urls["coingecko"],
            UpstreamPolicy(allowances=(free,), reserve=SMALL_SHARE, floor_s=5.0),
            coingecko.refusal,
            optional="COINGECKO_DEMO_API_KEY",
        )
        self._open(
            coingecko.NAME_PRO,
            urls["coingecko_pro"],
            UpstreamPolicy(allowances=(Allowance(250, 60.0),), reserve=OWN_SHARE, floor_s=5.0),
            coingecko.refusal,
            "COINGECKO_PRO_API_KEY",
        )
        self._open(
            crypto_dt_source.NAME,
            urls["crypto_dt_source"],
            UpstreamPolicy(
                timeout_s=20.0,
                allowances=(Allowance(28, 60.0), Allowance(480, HOUR_S)),
                reserve=SMALL_SHARE,
                floor_s=2.0,
            ),
            crypto_dt_source.refusal,
        )
        self._open(
            alternative_me.NAME,
            _without(urls["alternative_me"], "/fng"),
            UpstreamPolicy(allowances=(Allowance(55, 60.0),), reserve=OWN_SHARE, floor_s=10.0),
            alternative_me.refusal,
        )
        for name, setting in (
            (etherscan.NAME, "ETHERSCAN_API_KEY"),
            (etherscan.BACKUP_NAME, "ETHERSCAN_BACKUP_API_KEY"),
        ):
            self._open(
                name,
                _without(urls["etherscan"], "/v2/api"),
                UpstreamPolicy(allowances=(Allowance(3, 1.05), *spread(95_000, DAY_S)), reserve=OWN_SHARE, floor_s=1.0),
                etherscan.refusal,
                setting,
            )
        self._open(
            ethereum_rpc.NAME,
            urls["ethereum_rpc"],
            UpstreamPolicy(
                allowances=(Allowance(120, 60.0),), reserve=OWN_SHARE, floor_s=1.0, hosts_share_limits=False
            ),
            ethereum_rpc.refusal,
        )
        self._open(
            blockscout.NAME,
            _without(urls["blockscout"], "/api/v2/stats"),
            UpstreamPolicy(allowances=(Allowance(5, 1.05),), reserve=OWN_SHARE, floor_s=1.0, reset_unit_s=0.001),
            blockscout.refusal,
        )
        self._open(
            crypto_api_clean.NAME,
            urls["crypto_api_clean"],
            UpstreamPolicy(
                timeout_s=20.0,
                allowances=(Allowance(60, 60.0), Allowance(1000, HOUR_S)),
                reserve=SMALL_SHARE,
                floor_s=5.0,
            ),
            crypto_api_clean.refusal,
        )
        self._open(
            huggingface.NAME,
            _without(urls["huggingface"], "/models", "/hf-inference"),
            UpstreamPolicy(allowances=(Allowance(60, 60.0),), reserve=OWN_SHARE),
            huggingface.refusal,
            "HF_TOKEN",
        )
        self._open(lexicon.NAME, None, UpstreamPolicy(local=True))
        self._open(
            cryptopanic.NAME,
            _without(urls["cryptopanic"], f"/api/{self.cryptopanic_plan}/v2/posts", f"/api/{self.cryptopanic_plan}/v2"),
            UpstreamPolicy(allowances=(Allowance(2, 1.05), *spread(1000, DAY_S)), reserve=LARGE_SHARE, floor_s=60.0),
            cryptopanic.refusal,
            "CRYPTOPANIC_API_KEY",
        )
        self._open(
            newsapi.NAME,
            urls["newsapi"],
            UpstreamPolicy(allowances=spread(48, 12 * HOUR_S), reserve=LARGE_SHARE, floor_s=900.0),
            newsapi.refusal,
            "NEWS_API_KEY",
        )
        self._open(
            reddit.NAME,
            urls["reddit"],
            UpstreamPolicy(allowances=(Allowance(90, 60.0),), reserve=OWN_SHARE, floor_s=30.0),
            reddit.refusal,
            "REDDIT_CLIENT_SECRET" if self.key("REDDIT_CLIENT_ID") else "REDDIT_CLIENT_ID",
        )
        for feed in self.rss:
            self._open(
                feed.name,
                [feed.base_url],
                UpstreamPolicy(allowances=(Allowance(60, 60.0),), reserve=OWN_SHARE, floor_s=30.0),
                rss.refusal,
            )

    @property
    def cryptopanic_plan(self) -> str:
        """Return CryptoPanic's plan, which is a part of its path."""
        words = self.policy.urls["cryptopanic"][0].split("/")
        return next((plan for plan in cryptopanic.PLANS if plan in words), cryptopanic.PLANS[0])

    @property
    def reddit_tokens_url(self) -> str:
        """Return where tokens come from: Reddit's site, or the address that replaces its API."""
        api = self.policy.urls["reddit"][0].rstrip("/")
        return reddit.SITE_URL if api == reddit.API_URL else api


def _without(urls: Sequence[str], *paths: str) -> list[str]:
    """Return base URLs without the path that requests add themselves, in case a setting has it too."""
    plain = []
    for url in urls:
        url = url.rstrip("/")
        for path in paths:
            url = url.removesuffix(path).rstrip("/")
        plain.append(url)
    return plain
