"""A fake Crypto API Clean: a catalogue of about sixty rows, with keys in it like the real one."""

from collections.abc import Callable
from datetime import datetime

import orjson

from tests.fakes.upstream import Call, FakeUpstream, Reply, wall_clock_ms

CALLS_A_MINUTE = 60
HTML = {"Content-Type": "text/html; charset=utf-8"}
SLEEPING = b"<!DOCTYPE html><html><head><title>Space is sleeping</title></head><body>Space is sleeping</body></html>"

COUNTS = {
    "rpc_nodes": 6,
    "block_explorers": 7,
    "market_data_apis": 7,
    "news_apis": 5,
    "sentiment_apis": 4,
    "onchain_analytics_apis": 4,
    "whale_tracking_apis": 3,
    "community_sentiment_apis": 1,
    "hf_resources": 4,
    "free_http_endpoints": 5,
    "local_backend_routes": 10,
    "cors_proxies": 4,
}

KEYS = {
    "etherscan": "FAKE0KEY1OF2NOBODY3IN4CAPITALS5XYZ",
    "coinmarketcap": "fa4ece11-0000-4bad-8bad-c0ffee123456",
    "infura": "fa4e0123456789abcdef0123456789ab",
    "newsapi": "pub_fake0123456789abcdefghijklmnopqrstuv",
    "letters": "onlylettersnobodywouldtakeforakey",
    "huggingface": "hf_FakeTokenOfNobodyAtAll012345678",
}
"""Invented keys by service, in the shapes of real ones."""

ROWS_WITH_KEYS: dict[str, list[dict[str, object]]] = {
    "rpc_nodes": [
        {
            "id": "infura_eth_mainnet",
            "name": "Infura Ethereum Mainnet",
            "chain": "ethereum",
            "role": "rpc",
            "base_url": f"https://mainnet.infura.io/v3/{KEYS['infura']}",
            "auth": {"type": "apiKeyPath", "key": KEYS["infura"], "param_name": "PROJECT_ID"},
            "docs_url": "https://docs.infura.io",
            "notes": "Free tier: 100K req/day",
        }
    ],
    "block_explorers": [
        {
            "id": "etherscan_primary",
            "name": "Etherscan",
            "base_url": "https://api.etherscan.io/api",
            "auth": {"type": "apiKeyQuery", "key": KEYS["etherscan"], "param_name": "apikey"},
            "docs_url": "https://docs.etherscan.io",
            "endpoints": {
                "gas_price": f"?module=gastracker&action=gasoracle&apikey={KEYS['etherscan']}",
                "balance": "?module=account&action=balance&address={address}&tag=latest&apikey={key}",
            },
            "notes": f"Rate limit: 5 calls/sec, key {KEYS['etherscan']}",
        }
    ],
    "market_data_apis": [
        {
            "id": "coinmarketcap_primary_1",
            "name": "CoinMarketCap (key #1)",
            "base_url": "https://pro-api.coinmarketcap.com/v1",
            "auth": {"type": "apiKeyHeader", "key": KEYS["coinmarketcap"], "header_name": "X-CMC_PRO_API_KEY"},
            "endpoints": {
                "latest_quotes": "/cryptocurrency/quotes/latest?symbol={symbol}",
                "headers": {"X-CMC_PRO_API_KEY": KEYS["coinmarketcap"]},
            },
        },
        {
            "id": "letters_api",
            "name": "A key of letters",
            "base_url": f"https://api.letters.example/{KEYS['letters']}/prices",
            "auth": {"type": "apiKeyPath", "key": KEYS["letters"]},
        },
    ],
    "news_apis": [
        {
            "id": "newsdata",
            "name": "NewsData",
            "base_url": "https://newsdata.io/api/1",
            "auth": {"type": "apiKeyQuery", "param_name": "apikey"},
            "endpoints": f"GET /news?apikey={KEYS['newsapi']}&q=crypto",
        }
    ],
    "hf_resources": [
        {
            "id": "hf_model_elkulako_cryptobert",
            "name": "ElKulako/CryptoBERT",
            "type": "model",
            "base_url": "https://api-inference.huggingface.co/models/ElKulako/cryptobert",
            "auth": {"type": "apiKeyHeaderOptional", "key": KEYS["huggingface"], "header_name": "Authorization"},
            "endpoints": {"classify": f"POST with header Authorization: Bearer {KEYS['huggingface']}"},
        }
    ],
}


def rows_of(category: str) -> list[dict[str, object]]:
    """Return the rows of a category: those with keys, one of them twice, and others up to its count."""
    rows = list(ROWS_WITH_KEYS.get(category, ()))
    local = category == "local_backend_routes"
    while len(rows) < COUNTS[category]:
        number = len(rows)
        place = "{API_BASE}" if local else f"https://{category.replace('_', '-')}-{number}.example"
        rows.append(
            {
                "id": f"{category}_{number}",
                "name": f"{category.replace('_', ' ').title()} {number}",
                "base_url": None if category == "whale_tracking_apis" and number == 0 else f"{place}/v{number}",
                "auth": {"type": "none"},
                "docs_url": None if local else f"{place}/docs",
                "endpoints": {"list": "/list?limit={limit}"} if number % 2 else None,
                "notes": "Replace {API_BASE} with your local server base URL" if local else None,
            }
        )
    if category in ("onchain_analytics_apis", "free_http_endpoints"):
        rows[-1] = {**rows[0], "name": f"{rows[0]['name']} again"}
    if category in ("news_apis", "free_http_endpoints"):
        rows[1] = {**rows[1], "id": "coindesk_rss", "name": "CoinDesk RSS"}  # one id in two categories
    return rows


class FakeCryptoApiClean(FakeUpstream):
    """Serve the endpoints of the Space. `asleep` is the status with which it shows the page of a sleeping Space."""

    def __init__(self, wall_ms: Callable[[], int] = wall_clock_ms) -> None:
        super().__init__(wall_ms)
        self.asleep: int | None = None
        self.lost: set[str] = set()
        """Categories that are listed but answer 404."""
        self.over_limit = 0
        for path, reply in (
            ("/health", self._health),
            ("/api/health", self._health),
            ("/api/resources/stats", self._stats),
            ("/api/resources/list", self._list),
            ("/api/categories", self._categories),
            ("/api/resources/category/*", self._category),
        ):
            self.on("GET", path, self._guarded(reply))

    def _guarded(self, reply: Callable[[Call], Reply]) -> Callable[[Call], Reply]:
        def guarded(call: Call) -> Reply:
            if self.asleep is not None:
                return Reply(SLEEPING, self.asleep, HTML)
            if sum(1 for each in self.calls if each.at > call.at - 60.0) > CALLS_A_MINUTE:
                self.over_limit += 1
                return Reply(b"Too Many Requests", 429, HTML)
            return reply(call)

        return guarded

    def _json_reply(self, **body: object) -> Reply:
        # Local time without a zone, as the server sends it.
        stamp = datetime.fromtimestamp(self.wall_ms() / 1000).isoformat()
        return Reply(orjson.dumps({**body, "timestamp": stamp}))

    def _health(self, call: Call) -> Reply:
        return self._json_reply(status="healthy", resources_loaded=True, total_categories=12, websocket_connections=0)

    def _stats(self, call: Call) -> Reply:
        metadata = {"version": "1.0", "updated": "2025-12-08"}
        total = sum(COUNTS.values())
        return self._json_reply(total_resources=total, total_categories=12, categories=COUNTS, metadata=metadata)

    def _list(self, call: Call) -> Reply:
        rows = [{"category": category, **row} for category in COUNTS for row in rows_of(category)]
        return self._json_reply(total=len(rows), resources=rows[:20], note=f"Showing first 20 of {len(rows)} resources")

    def _categories(self, call: Call) -> Reply:
        listed = [
            {"name": name, "count": count, "endpoint": f"/api/resources/category/{name}"}
            for name, count in COUNTS.items()
        ]
        return self._json_reply(total=len(listed), categories=listed)

    def _category(self, call: Call) -> Reply:
        name = call.path.rpartition("/")[2]
        if name == "metadata":
            return Reply(b'{"error":"Invalid category"}', 400)
        if name not in COUNTS or name in self.lost:
            return Reply(orjson.dumps({"error": f"Category '{name}' not found"}), 404)
        rows = rows_of(name)
        return self._json_reply(category=name, total=len(rows), resources=rows)
