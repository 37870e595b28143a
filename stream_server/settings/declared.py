"""Every setting: its name, type, bounds, default and meaning, each once.

`.env.example` and the table in docs/operations.md are printed from this list (`make docs`). Lower modules get small
policies, never `Settings`.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from stream_server.settings.problems import SettingsError, problems_of
from stream_server.settings.rules import Rule, rule_of
from stream_server.settings.texts import (
    ApiKey,
    BaseNames,
    BinanceRestUrls,
    BinanceSocketUrls,
    EventLoop,
    Folder,
    FrameAncestors,
    Intervals,
    KeyFile,
    LogFormat,
    LogLevel,
    Names,
    Networks,
    Origins,
    Outlets,
    Seconds,
    Secret,
    SymbolNames,
    Tokens,
    WebUrls,
    ZeroOr,
)

DAY_S = 86_400
MIB = 1024 * 1024
NEEDS = dict.fromkeys(("AUTH_JWT_AUDIENCE", "AUTH_JWT_ISSUER"), frozenset(("AUTH_JWKS_FILE", "AUTH_JWT_SECRET")))
"""Settings that need one of others. An operator who sets one of these believes that tokens are required."""


class Settings(BaseSettings):
    """The settings of one run. Their names are those of the environment, in lower case."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=str.upper,
        validate_by_name=True,
        validate_by_alias=True,
        case_sensitive=True,
        enable_decoding=False,
        hide_input_in_errors=True,
    )

    # --- Where it listens ---

    host: Annotated[
        str,
        Field(
            description="The address or host name to listen on. * and :: mean every IPv4 and IPv6 address of this "
            "machine.",
            json_schema_extra={"accepts": "an address or a host name"},
        ),
    ] = "0.0.0.0"  # noqa: S104 - a container's port is reached from outside it
    port: Annotated[
        int, Field(ge=0, le=65535, description="The port to listen on. 0 lets the system choose a free one.")
    ] = 7860
    stream_server_loop: Annotated[
        EventLoop, Field(description="The event loop; auto is uvloop where it is installed and asyncio elsewhere.")
    ] = "auto"
    light_connections: Annotated[
        bool,
        Field(
            description="Whether WebSocket clients are served without an aiohttp request and task, which takes a tenth "
            "of the memory. 0 serves all of them with aiohttp."
        ),
    ] = True
    shutdown_s: Annotated[Seconds, Field(ge=1, le=600, description="The longest time from SIGTERM to the exit.")] = 10.0

    # --- Logs and files ---

    log_level: Annotated[LogLevel, Field(description="The least important level that is logged.")] = "INFO"
    log_format: Annotated[
        LogFormat, Field(description="The form of log lines: text for people, json for machines.")
    ] = "text"
    log_dir: Annotated[
        Folder,
        Field(
            description="The folder of provider_rotation.log, provider_failures.log and provider_health.log. Each is "
            "rotated at 5 MB, and three old ones are kept."
        ),
    ] = Path("logs")
    state_dir: Annotated[
        Folder,
        Field(
            description="The folder of what survives a restart: pairs, bans, used calls of a day, and the last good "
            "answers of slow sources. The service does not start if another folder than the default is set and cannot "
            "be written."
        ),
    ] = Path(".state")

    # --- Who may read ---

    allowed_origins: Annotated[
        Origins,
        Field(
            description="The origins whose pages may open /ws, post, and read REST and SSE; https://*.example.org "
            "means every subdomain. Our own page always may. Behind TLS it is recognised by the X-Forwarded-Proto of "
            "one of TRUSTED_PROXIES; without such a proxy, add its origin."
        ),
    ] = ("*",)
    frame_ancestors: Annotated[
        FrameAncestors,
        Field(
            description="The sites that may show our page in a frame; https://*.example.org means every subdomain. The "
            "default also allows the sites that show Hugging Face Spaces."
        ),
    ] = ("'self'", "https://huggingface.co", "https://*.hf.space")
    auth_tokens: Annotated[
        Tokens | None,
        Field(
            repr=False,
            description="Named tokens. Everybody may read unless this, AUTH_JWT_SECRET or AUTH_JWKS_FILE is set. Only "
            "the SHA-256 digests of the tokens are kept in memory.",
        ),
    ] = None
    auth_jwt_secret: Annotated[
        Secret | None,
        Field(
            repr=False,
            description='The secret that verifies JSON Web Tokens signed with HS256. The claim "topics" of a token '
            "lists the patterns that it may read.",
        ),
    ] = None
    auth_jwks_file: Annotated[
        KeyFile | None,
        Field(
            description="A JWKS file with the public keys that verify JSON Web Tokens signed with RS256, ES256 or "
            'EdDSA. It is read again when it changes. Needs the extra "auth", which installs cryptography.'
        ),
    ] = None
    auth_jwt_audience: Annotated[
        Names | None,
        Field(
            description='The accepted values of "aud" in a JSON Web Token. Empty: a token with an "aud" is refused, '
            "because it is meant for another service."
        ),
    ] = None
    auth_jwt_issuer: Annotated[
        Names | None, Field(description='The accepted values of "iss" in a JSON Web Token. Empty: any.')
    ] = None
    auth_jwt_endless: Annotated[
        bool,
        Field(
            description='Whether JSON Web Tokens without "exp" are accepted. Only removing its key revokes such a '
            "token."
        ),
    ] = False
    metrics_open: Annotated[
        bool,
        Field(
            description="Whether other machines may read /metrics. Where tokens are set, every reader needs one "
            "instead."
        ),
    ] = False

    # --- Limits for clients ---

    trusted_proxies: Annotated[
        Networks | None,
        Field(
            description="The proxies in front of this server. Only their X-Forwarded-For is believed, from right to "
            "left."
        ),
    ] = None
    max_connections: Annotated[
        int, Field(ge=1, le=1_000_000, description="The most WebSocket and SSE clients together.")
    ] = 10_000
    max_connections_per_ip: Annotated[
        int | None,
        Field(
            ge=0,
            le=1_000_000,
            description="The most connections and streams of one address; 0 means no limit. Empty: 256, and no limit "
            "for this machine and private networks, because a proxy that TRUSTED_PROXIES does not name may be there.",
        ),
    ] = None
    rest_rate_per_s: Annotated[
        Annotated[float, ZeroOr(0.01, 1_000_000)] | None,
        Field(
            description="Requests per second from one address, twice as many in a burst; 0 means no limit. Empty: 50, "
            "and no limit for this machine and private networks."
        ),
    ] = None
    ask_rate_per_s: Annotated[
        float,
        ZeroOr(0.01, 1_000_000),
        Field(
            description="Queries per second from one address that only a source can answer, thirty in a burst; 0 means "
            "no limit. Loopback addresses have no limit."
        ),
    ] = 1.0
    max_demand_topics: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="The most topics that all clients together may start upstream: candles that OHLCV_SYMBOLS and "
            "OHLCV_INTERVALS do not name, and names that cannot be checked while the exchange's list is not available. "
            "Above it a client gets the error demand_limit. Each series takes about 100 KB and one or two requests.",
        ),
    ] = 500
    max_demand_topics_per_ip: Annotated[
        int,
        Field(
            ge=0,
            le=100_000,
            description="The same for one address; 0 means no limit. Loopback addresses have no limit.",
        ),
    ] = 100
    outbox_bytes: Annotated[
        int,
        Field(
            ge=64 * 1024,
            le=1 << 30,
            description="The bytes held for one slow client; a client above it is disconnected.",
            json_schema_extra={"unit": "bytes"},
        ),
    ] = 4 * MIB
    outbox_total_bytes: Annotated[
        int,
        Field(
            ge=MIB,
            le=1 << 50,
            description="The bytes held for all slow clients together; above it the clients that hold most are "
            "disconnected.",
            json_schema_extra={"unit": "bytes"},
        ),
    ] = 512 * MIB
    stall_s: Annotated[
        Seconds, Field(ge=1, le=3600, description="A client that reads nothing for this long is disconnected.")
    ] = 30.0

    # --- What is streamed ---

    symbols: Annotated[
        SymbolNames, Field(description="The prices to stream: * for every USDT pair, or a list of bases and pairs.")
    ] = ()
    ohlcv_symbols: Annotated[
        BaseNames, Field(description="The symbols whose candles are always kept; all others start with a subscriber.")
    ] = ("BTC", "ETH", "BNB", "SOL", "XRP")
    ohlcv_intervals: Annotated[
        Intervals, Field(description="The intervals of the candles that are always kept; 1m is a minute, 1M a month.")
    ] = ("1m", "1h", "1d")
    idle_topic_s: Annotated[
        Seconds,
        Field(ge=1, le=DAY_S, description="Candles on demand end this long after their last subscriber has left."),
    ] = 60.0
    snapshot_ttl_s: Annotated[
        Seconds,
        Field(
            ge=1,
            le=DAY_S,
            description="A value is stale after this long without an update; a value that is polled more slowly, after "
            "three polls.",
        ),
    ] = 60.0
    cache_ttl_s: Annotated[Seconds, Field(ge=1, le=DAY_S, description="How long REST answers are cached.")] = 60.0
    stale_if_error_s: Annotated[
        Seconds | None,
        Field(
            ge=1,
            le=365 * DAY_S,
            description="The maximum age of an answer that is given, marked stale, while every source is down. Empty: "
            "one hour, and thirty days for what changes slowly (catalogue, totals, Fear & Greed, news).",
        ),
    ] = None
    ring_events: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Log events (closed candles, articles) held for each topic, so that clients can resume.",
        ),
    ] = 500
    heartbeat_s: Annotated[
        Seconds, Field(ge=1, le=3600, description="The time between two pings to a WebSocket client.")
    ] = 20.0
    probe_s: Annotated[
        float,
        ZeroOr(1, 3600),
        Field(
            description="The time between two self-probes, each of which publishes a value and receives it like a "
            "client; 0 means none.",
            json_schema_extra={"unit": "seconds"},
        ),
    ] = 5.0

    # --- How often sources are asked ---

    market_poll_s: Annotated[
        Seconds,
        Field(
            ge=1,
            le=DAY_S,
            description="The time between two polls of the market table, and of prices while no exchange streams them. "
            "Like all polls, five times as long while nobody listens.",
        ),
    ] = 30.0
    news_poll_s: Annotated[Seconds, Field(ge=1, le=DAY_S, description="The time between two polls of news.")] = 120.0
    sentiment_poll_s: Annotated[
        Seconds,
        Field(
            ge=1,
            le=DAY_S,
            description="The time between two polls of the Fear & Greed index when the index does not announce its "
            "next change.",
        ),
    ] = 600.0
    gas_poll_s: Annotated[Seconds, Field(ge=1, le=DAY_S, description="The time between two polls of gas prices.")] = (
        15.0
    )

    # --- API keys ---

    coingecko_pro_api_key: Annotated[ApiKey | None, Field(repr=False, description="A key of CoinGecko's Pro API.")] = (
        None
    )
    coingecko_demo_api_key: Annotated[
        ApiKey | None, Field(repr=False, description="A key of CoinGecko's Demo plan.")
    ] = None
    cryptopanic_api_key: Annotated[ApiKey | None, Field(repr=False, description="A key of CryptoPanic.")] = None
    news_api_key: Annotated[ApiKey | None, Field(repr=False, description="A key of NewsAPI.")] = None
    etherscan_api_key: Annotated[ApiKey | None, Field(repr=False, description="A key of Etherscan.")] = None
    etherscan_backup_api_key: Annotated[
        ApiKey | None, Field(repr=False, description="A second key of Etherscan, used when the first one fails.")
    ] = None
    hf_token: Annotated[
        ApiKey | None, Field(repr=False, description="A token of Hugging Face, for sentiment models.")
    ] = None
    reddit_client_id: Annotated[ApiKey | None, Field(repr=False, description="The id of a Reddit application.")] = None
    reddit_client_secret: Annotated[
        ApiKey | None, Field(repr=False, description="The secret of the Reddit application.")
    ] = None

    # --- Where sources are ---

    binance_ws_urls: Annotated[
        BinanceSocketUrls,
        Field(
            description="The stream hosts of Binance, the preferred one first. The next one is used after a failure."
        ),
    ] = ("wss://stream.binance.com:9443", "wss://data-stream.binance.vision")
    binance_rest_urls: Annotated[
        BinanceRestUrls, Field(description="The REST hosts of Binance, the preferred one first.")
    ] = ("https://api.binance.com", "https://data-api.binance.vision")
    coingecko_url: Annotated[
        WebUrls, Field(description="The base URL of CoinGecko without a key or with a Demo key.")
    ] = ("https://api.coingecko.com/api/v3",)
    coingecko_pro_url: Annotated[WebUrls, Field(description="The base URL of CoinGecko with a Pro key.")] = (
        "https://pro-api.coingecko.com/api/v3",
    )
    cryptopanic_url: Annotated[
        WebUrls, Field(description="The base URL of CryptoPanic. The plan is part of the path.")
    ] = ("https://cryptopanic.com/api/developer/v2",)
    newsapi_url: Annotated[WebUrls, Field(description="The base URL of NewsAPI.")] = ("https://newsapi.org/v2",)
    alternative_me_url: Annotated[
        WebUrls, Field(description="The base URL of alternative.me, for the Fear & Greed index.")
    ] = ("https://api.alternative.me",)
    etherscan_url: Annotated[WebUrls, Field(description="The base URL of Etherscan.")] = (
        "https://api.etherscan.io/v2/api",
    )
    eth_rpc_urls: Annotated[WebUrls, Field(description="Ethereum nodes with JSON-RPC, the preferred one first.")] = (
        "https://ethereum-rpc.publicnode.com",
        "https://rpc.mevblocker.io",
        "https://eth.drpc.org",
        "https://1rpc.io/eth",
    )
    blockscout_url: Annotated[WebUrls, Field(description="The base URL of Blockscout.")] = (
        "https://eth.blockscout.com",
    )
    reddit_url: Annotated[WebUrls, Field(description="The base URL of Reddit.")] = ("https://oauth.reddit.com",)
    crypto_api_clean_url: Annotated[WebUrls, Field(description="The base URL of the Space crypto-api-clean.")] = (
        "https://really-amin-crypto-api-clean-fixed.hf.space",
    )
    crypto_dt_source_url: Annotated[WebUrls, Field(description="The base URL of crypto-dt-source.")] = (
        "https://crypto-dt-source.onrender.com",
    )
    hf_inference_url: Annotated[WebUrls, Field(description="The base URL of the inference API of Hugging Face.")] = (
        "https://router.huggingface.co/hf-inference",
    )
    hf_datasets_url: Annotated[WebUrls, Field(description="The base URL of the data sets of Hugging Face.")] = (
        "https://huggingface.co",
    )
    rss_feeds: Annotated[
        Outlets,
        Field(
            description='The news outlets and their feeds. An outlet whose name begins with "reddit" counts as social.'
        ),
    ] = {
        "coindesk": "https://www.coindesk.com/arc/outboundfeeds/rss",
        "cointelegraph": "https://cointelegraph.com/rss",
        "decrypt": "https://decrypt.co/feed",
        "bitcoinmagazine": "https://bitcoinmagazine.com/feed",
        "theblock": "https://www.theblock.co/rss.xml",
    }

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing when settings are made: only `load` reads the environment and a file."""
        return (init_settings,)

    @classmethod
    def load(cls, env_file: Path | None = None) -> "Settings":
        """Read a file and the environment, which wins. `.env` may be missing, a file that is named may not.

        Raises: SettingsError.
        """
        if env_file is not None and (not env_file.exists() or env_file.is_dir()):
            raise SettingsError([f"--env-file {env_file}: {'is a folder' if env_file.exists() else 'no such file'}"])
        env_file = env_file or Path(".env")
        try:
            in_file = DotEnvSettingsSource(cls, env_file)()
        except OSError as error:
            raise SettingsError([f"file {env_file}: {error.strerror}"]) from None
        except UnicodeDecodeError:
            raise SettingsError([f"file {env_file}: is not a text in UTF-8"]) from None
        return cls.parse(in_file | EnvSettingsSource(cls)())

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> "Settings":
        """Read settings from texts. An empty value is the default. Raises: SettingsError."""
        names = [name.upper() for name in cls.model_fields]
        given = {name: text for name in names if (text := values.get(name, "").strip())}
        problems: dict[str, str] = {}
        settings: Settings | None = None
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            problems = problems_of(error, given, cls.rules())
        for name, needed in NEEDS.items():
            if name in given and not needed & given.keys():
                problems.setdefault(name, f"{name}={given[name]!r}: needs {' or '.join(sorted(needed))}")
        if settings is None or problems:
            raise SettingsError(list(problems.values()))
        return settings

    @classmethod
    @functools.cache
    def rules(cls) -> Mapping[str, Rule]:
        """Return what each setting accepts and means, by its name in the environment."""
        return {name: rule_of(schema) for name, schema in cls.model_json_schema()["properties"].items()}


API_KEYS = tuple(name for name, info in Settings.model_fields.items() if info.annotation == ApiKey | None)
"""The settings that are keys of sources."""
