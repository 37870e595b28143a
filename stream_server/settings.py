"""Everything that can be set, read once from the environment and `.env`. Only this module reads either.

A bad start names every wrong setting at once. Lower modules get small policies, never `Settings`.
"""

import hashlib
import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from dotenv import dotenv_values

from feeds.intervals import INTERVALS
from feeds.providers.rss import DEFAULT_FEEDS
from feeds.symbols import LONGEST_NAME, is_plausible
from feeds.venues.binance import venue_of
from stream_server.access import jwks, origins

T = TypeVar("T")

KEYS = (
    "COINGECKO_PRO_API_KEY",
    "COINGECKO_DEMO_API_KEY",
    "CRYPTOPANIC_API_KEY",
    "NEWS_API_KEY",
    "ETHERSCAN_API_KEY",
    "ETHERSCAN_BACKUP_API_KEY",
    "HF_TOKEN",
    "REDDIT_CLIENT_ID",
    "REDDIT_CLIENT_SECRET",
)
"""The settings that are keys."""

SECRET = re.compile("KEY|TOKEN|SECRET|REDDIT|URL|FEEDS")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class SettingsError(Exception):
    """One or more settings are wrong; `problems` has a sentence for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Settings:
    """Names are those of the environment, in lower case. Times wear their unit."""

    host: str = "0.0.0.0"  # noqa: S104 - a container's port is reached from outside it
    """An address or a name; `*` and `::` for every address of both families."""
    port: int = 7860
    log_level: str = "INFO"
    log_format: str = "text"
    log_dir: Path = Path("logs")
    """Where the three diaries of the providers are written."""
    state_dir: Path = Path(".state")
    """Where pairs, bans and the last good answers of slow sources survive a restart."""
    allowed_origins: tuple[str, ...] = ("*",)
    frame_ancestors: tuple[str, ...] = ("'self'", "https://huggingface.co", "https://*.hf.space")
    """Whose pages may show ours in a frame, in the words of a Content-Security-Policy. A Space is shown in one."""
    auth_tokens: Mapping[str, bytes] | None = field(default=None, repr=False)
    """The SHA-256 digest of each named token. With none, and nothing below, everybody may read."""
    auth_jwt_secret: str | None = field(default=None, repr=False)
    """What JSON Web Tokens (HS256) are signed with."""
    auth_jwks_file: Path | None = None
    """Public keys that JSON Web Tokens (RS256, ES256, EdDSA) are signed with; read again when it changes."""
    auth_jwt_audience: tuple[str, ...] | None = None
    """One of these must stand in `aud`. With none, a token that is meant for somebody is not for us."""
    auth_jwt_issuer: tuple[str, ...] | None = None
    """One of these must be `iss`. With none, it is not looked at."""
    auth_jwt_endless: bool = False
    """Take JSON Web Tokens without `exp`, which can only be called back by taking away their key."""
    trusted_proxies: tuple[Network, ...] | None = None
    """Whose `X-Forwarded-For` is believed."""
    max_connections_per_ip: int | None = None
    """0 for no limit. Unset: 256, and none for this machine, private networks and named proxies, as through a
    proxy that is not named all clients have one address."""
    max_demand_topics: int = 500
    """Topics that clients may have started upstream, all together: candles that OHLCV_SYMBOLS and OHLCV_INTERVALS do
    not name. 500 series cost some 50 MB and a tenth of Binance's allowance."""
    max_demand_topics_per_ip: int = 100
    """Of these, how many one address may have started; 0 for no limit. This machine's own addresses have none."""
    rest_rate_per_s: float | None = None
    """Requests a second from one address, twice as many in a burst; 0 for none. Unset: 50, and none for the same."""
    metrics_open: bool = False
    """Give `/metrics` to other machines, too. Where tokens are set, it takes one of them from anywhere."""
    ask_rate_per_s: float = 1.0
    """Questions a second from one address that only a source can answer, thirty in a burst; 0 for no limit. This
    machine's own address has none."""
    light_connections: bool = True
    """Serve WebSocket clients without aiohttp's request and task: a tenth of the memory."""
    max_connections: int = 10_000
    """WebSocket and SSE together."""

    symbols: tuple[str, ...] = ()
    """Bases or pairs with prices; empty (`*`) for all USDT pairs."""
    ohlcv_symbols: tuple[str, ...] = ("BTC", "ETH", "BNB", "SOL", "XRP")
    ohlcv_intervals: tuple[str, ...] = ("1m", "1h", "1d")
    """Candles that are kept whether or not somebody listens; all others start on demand."""

    snapshot_ttl_s: float = 60.0
    """A value without an update for this long is `stale`; one that is polled more slowly, after three polls."""
    cache_ttl_s: float = 60.0
    """REST answers are taken from the cache for this long."""
    stale_if_error_s: float | None = None
    """With every provider down, answers this old are still given, marked stale. Unset: an hour, and thirty days for
    what changes slowly (catalogue, totals, Fear & Greed, news)."""
    ring_events: int = 500
    """Log events held for resuming, by topic."""
    outbox_bytes: int = 4 * 1024 * 1024
    """What is held for one slow client before it is cut."""
    outbox_total_bytes: int = 512 * 1024 * 1024
    """What is held for all slow clients together; above it those with most are cut."""
    stall_s: float = 30.0
    """A client that takes nothing for this long is cut."""
    heartbeat_s: float = 20.0
    idle_topic_s: float = 60.0
    """Candles on demand are dropped this long after the last listener left."""
    shutdown_s: float = 10.0
    probe_s: float = 5.0
    """Between two round trips of the self-probe; 0 for none."""
    market_poll_s: float = 30.0
    """Between two polls of prices while no stream delivers, and of the market table while somebody listens."""
    news_poll_s: float = 120.0
    sentiment_poll_s: float = 600.0
    """The index itself tells when it will change; this is the pace when it does not."""
    gas_poll_s: float = 15.0

    coingecko_pro_api_key: str | None = field(default=None, repr=False)
    coingecko_demo_api_key: str | None = field(default=None, repr=False)
    cryptopanic_api_key: str | None = field(default=None, repr=False)
    news_api_key: str | None = field(default=None, repr=False)
    etherscan_api_key: str | None = field(default=None, repr=False)
    etherscan_backup_api_key: str | None = field(default=None, repr=False)
    hf_token: str | None = field(default=None, repr=False)
    reddit_client_id: str | None = field(default=None, repr=False)
    reddit_client_secret: str | None = field(default=None, repr=False)

    binance_ws_urls: tuple[str, ...] = ("wss://stream.binance.com:9443", "wss://data-stream.binance.vision")
    binance_rest_urls: tuple[str, ...] = ("https://api.binance.com", "https://data-api.binance.vision")
    coingecko_url: tuple[str, ...] = ("https://api.coingecko.com/api/v3",)
    coingecko_pro_url: tuple[str, ...] = ("https://pro-api.coingecko.com/api/v3",)
    cryptopanic_url: tuple[str, ...] = ("https://cryptopanic.com/api/developer/v2",)
    """The plan is part of the path."""
    newsapi_url: tuple[str, ...] = ("https://newsapi.org/v2",)
    alternative_me_url: tuple[str, ...] = ("https://api.alternative.me",)
    etherscan_url: tuple[str, ...] = ("https://api.etherscan.io/v2/api",)
    eth_rpc_urls: tuple[str, ...] = (
        "https://ethereum-rpc.publicnode.com",
        "https://rpc.mevblocker.io",
        "https://eth.drpc.org",
        "https://1rpc.io/eth",
    )
    blockscout_url: tuple[str, ...] = ("https://eth.blockscout.com",)
    rss_feeds: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_FEEDS))
    """Outlet to URL."""
    reddit_url: tuple[str, ...] = ("https://oauth.reddit.com",)
    crypto_api_clean_url: tuple[str, ...] = ("https://really-amin-crypto-api-clean-fixed.hf.space",)
    crypto_dt_source_url: tuple[str, ...] = ("https://crypto-dt-source.onrender.com",)
    hf_inference_url: tuple[str, ...] = ("https://router.huggingface.co/hf-inference",)
    hf_datasets_url: tuple[str, ...] = ("https://huggingface.co",)

    @classmethod
    def load(cls, env_file: Path | None = None) -> "Settings":
        """From a file and the environment, which wins. `.env` may be missing, a file that is named may not.

        Raises SettingsError.
        """
        if env_file is not None and (not env_file.exists() or env_file.is_dir()):
            raise SettingsError([f"--env-file {env_file}: {'is a folder' if env_file.exists() else 'no such file'}"])
        env_file = env_file or Path(".env")
        try:
            values = {name: value for name, value in dotenv_values(env_file).items() if value is not None}
        except OSError as error:
            raise SettingsError([f"file {env_file}: {error.strerror}"]) from None
        except UnicodeDecodeError:
            raise SettingsError([f"file {env_file}: is no text in UTF-8"]) from None
        return cls.parse(values | dict(os.environ))

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> "Settings":
        """Read settings from text. An empty value is the default. Raises SettingsError."""
        read: dict[str, object] = {}
        problems: list[str] = []
        for each in fields(cls):
            name = each.name.upper()
            text = values.get(name, "").strip()
            if not text:
                continue
            try:
                read[each.name] = READERS[each.name](text)
            except ValueError as error:
                # A key, or a URL that carries one, is not repeated.
                given = name if SECRET.search(name) else f"{name}={text!r}"
                problems.append(f"{given}: {error}")
        for name in ("auth_jwt_audience", "auth_jwt_issuer"):
            # Whoever sets these believes that tokens are asked for.
            if name in read and not {"auth_jwt_secret", "auth_jwks_file"} & read.keys():
                text = values[name.upper()].strip()
                problems.append(f"{name.upper()}={text!r}: needs AUTH_JWT_SECRET or AUTH_JWKS_FILE")
        if problems:
            raise SettingsError(problems)
        return cls(**read)  # type: ignore[arg-type]  # the readers give what the fields say


# --- readers: text to value, or ValueError with what would be right ---


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError("must be a whole number") from None
        if not low <= number <= high:
            raise ValueError(f"must be from {low} to {high}")
        return number

    return read


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError("must be a number of seconds") from None
        if not math.isfinite(number) or not low <= number <= high:
            raise ValueError(f"must be from {low:g} to {high:g} seconds")
        return number

    return read


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        for choice in choices:
            if text.lower() == choice.lower():
                return choice
        raise ValueError(f"must be one of {', '.join(choices)}")

    return read


def _switch(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be 1 or 0")


def _list(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _some(text: str) -> tuple[str, ...]:
    names = _list(text)
    if not names:
        raise ValueError("must name at least one")
    return names


def _symbols(text: str) -> tuple[str, ...]:
    names = tuple(name.upper() for name in _list(text))
    if "*" in names:
        if len(names) > 1:
            raise ValueError("is either * or a list of symbols")
        return ()
    for name in names:
        if len(name) > LONGEST_NAME or not is_plausible(name):
            raise ValueError(f"{name!r} is not a symbol")
    return names


def _bases(text: str) -> tuple[str, ...]:
    if text == "*":
        raise ValueError("must name its symbols: candles of every pair would be too many streams")
    return () if text.lower() == "none" else _symbols(text)


def _intervals(text: str) -> tuple[str, ...]:
    names = _list(text)
    for name in names:
        if name not in INTERVALS:
            raise ValueError(f"{name!r} is not one of {', '.join(INTERVALS)}")
    return names


def _urls(*schemes: str) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        urls = tuple(url.rstrip("/") for url in _list(text))
        if not urls:
            raise ValueError("must name at least one URL")
        for url in urls:
            parts = urlsplit(url)
            try:
                port_is_fine = parts.port is None or parts.port > 0
            except ValueError:
                port_is_fine = False
            if parts.scheme not in schemes or not parts.hostname or not port_is_fine:
                raise ValueError(f"{_shown(url)!r} is not a {' or '.join(schemes)} URL")
        if len({venue_of(url) for url in urls}) > 1:
            raise ValueError("mixes exchanges: Binance's sister exchanges have prices of their own")
        return urls

    return read


def _shown(url: str) -> str:
    """A URL without what may be a key: its user, path and query."""
    scheme, found, rest = url.partition("://")
    return f"{scheme}://{re.split('[/?#]', rest)[0].rpartition('@')[2]}" if found else url[:40]


_http = _urls("http", "https")


def _feeds(text: str) -> dict[str, str]:
    feeds: dict[str, str] = {}
    if text.lower() == "none":
        return feeds
    for part in _list(text):
        name, found, url = part.partition("=")
        if not found or not name.strip().replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"{_shown(part)!r} is not name=url")
        feeds[name.strip().lower()] = _http(url.strip())[0]
    return feeds


def _key(text: str) -> str:
    if not text.isprintable() or " " in text or not text.isascii():
        raise ValueError("must be one word of printable ASCII")
    return text


def _origins(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(origins.read_allowed(origin) for origin in _list(text)))


def _ancestors(text: str) -> tuple[str, ...]:
    """Read the sources of `frame-ancestors`, with blanks or commas between them.

    `self` and `none` may lack their quotes, and `docker run --env-file` leaves the double ones of a file in the value.
    """
    sources = tuple(dict.fromkeys(_ancestor(word) for word in re.split(r"[\s,\"]+", text) if word))
    if not sources:
        raise ValueError("must name at least one source, or 'none'")
    if "'none'" in sources and len(sources) > 1:
        raise ValueError("is either 'none' or a list")
    return sources


def _ancestor(word: str) -> str:
    bare = word.strip("'").lower()
    if bare in ("self", "none"):
        return f"'{bare}'"
    # A header is made of it, so nothing but the letters of an origin is taken.
    if word != "*" and not re.fullmatch(r"(?:https?://)?(?:\*\.)?[a-z0-9.-]+(?::[0-9*]{1,5})?|https?:", word, re.I):
        raise ValueError(f"{word!r} is not 'self', 'none', * or an origin such as https://*.example.org")
    return word.lower()


def _tokens(text: str) -> dict[str, bytes]:
    """`name:token,…`; only digests are kept."""
    tokens: dict[str, bytes] = {}
    for part in _list(text):
        name, found, token = part.partition(":")
        name = name.strip()
        if not found or not token or not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
            raise ValueError("must be name:token,name:token… with names of letters, digits, '-', '_' and '.'")
        if name in tokens:
            raise ValueError(f"names {name!r} twice")
        digest = hashlib.sha256(_key(token.strip()).encode()).digest()
        if digest in tokens.values():
            raise ValueError(f"gives {name!r} the token of another name")
        tokens[name] = digest
    return tokens


def _secret(text: str) -> str:
    # HS256 asks for a key of at least the size of its hash (RFC 7518, section 3.2).
    if len(_key(text)) < 32:
        raise ValueError("must have at least 32 characters")
    return text


def _jwks(text: str) -> Path:
    jwks.read_keys(Path(text))
    return Path(text)


def _networks(text: str) -> tuple[Network, ...]:
    networks = []
    for part in _list(text):
        try:
            networks.append(ipaddress.ip_network(part, strict=False))
        except ValueError:
            raise ValueError(f"{part!r} is not an address or network such as 10.0.0.0/8") from None
    return tuple(networks)


def _zero_or(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError("must be a number") from None
        if not math.isfinite(number) or (number and not low <= number <= high):
            raise ValueError(f"must be 0 or from {low:g} to {high:g}")
        return number

    return read


READERS: dict[str, Callable[[str], object]] = {
    "host": str,
    "port": _whole(0, 65535),
    "log_level": _one_of("DEBUG", "INFO", "WARNING", "ERROR"),
    "log_format": _one_of("text", "json"),
    "log_dir": Path,
    "state_dir": Path,
    "allowed_origins": _origins,
    "frame_ancestors": _ancestors,
    "auth_tokens": _tokens,
    "auth_jwt_secret": _secret,
    "auth_jwks_file": _jwks,
    "auth_jwt_audience": _some,
    "auth_jwt_issuer": _some,
    "auth_jwt_endless": _switch,
    "trusted_proxies": _networks,
    "max_connections_per_ip": _whole(0, 1_000_000),
    "max_demand_topics": _whole(0, 100_000),
    "max_demand_topics_per_ip": _whole(0, 100_000),
    "rest_rate_per_s": _zero_or(0.01, 1_000_000),
    "ask_rate_per_s": _zero_or(0.01, 1_000_000),
    "metrics_open": _switch,
    "light_connections": _switch,
    "max_connections": _whole(1, 1_000_000),
    "symbols": _symbols,
    "ohlcv_symbols": _bases,
    "ohlcv_intervals": _intervals,
    "snapshot_ttl_s": _seconds(1, 86_400),
    "ring_events": _whole(1, 100_000),
    "outbox_bytes": _whole(64 * 1024, 1 << 30),
    "outbox_total_bytes": _whole(1024 * 1024, 1 << 50),
    "stall_s": _seconds(1, 3600),
    "heartbeat_s": _seconds(1, 3600),
    "idle_topic_s": _seconds(1, 86_400),
    "shutdown_s": _seconds(1, 600),
    "probe_s": _zero_or(1, 3600),
    "market_poll_s": _seconds(1, 86_400),
    "cache_ttl_s": _seconds(1, 86_400),
    "stale_if_error_s": _seconds(1, 365 * 86_400),
    "news_poll_s": _seconds(1, 86_400),
    "sentiment_poll_s": _seconds(1, 86_400),
    "gas_poll_s": _seconds(1, 86_400),
    **dict.fromkeys((name.lower() for name in KEYS), _key),
    "coingecko_url": _http,
    "coingecko_pro_url": _http,
    "cryptopanic_url": _http,
    "newsapi_url": _http,
    "alternative_me_url": _http,
    "etherscan_url": _http,
    "eth_rpc_urls": _http,
    "blockscout_url": _http,
    "rss_feeds": _feeds,
    "reddit_url": _http,
    "crypto_api_clean_url": _http,
    "crypto_dt_source_url": _http,
    "hf_inference_url": _http,
    "hf_datasets_url": _http,
    "binance_ws_urls": _urls("ws", "wss"),
    "binance_rest_urls": _http,
}
