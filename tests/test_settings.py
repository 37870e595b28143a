"""Tests of every setting: its default, its bad values and its sources."""

import hashlib
import os
import shutil
import threading
from pathlib import Path

import pytest
from dotenv import dotenv_values
from pydantic import ValidationError

from stream_server.settings import API_KEYS, Settings, SettingsError, printed
from stream_server.settings.rules import rule_of

ROOT = Path(__file__).parent.parent
NAMES = list(Settings.model_fields)
KEYS = [name.upper() for name in API_KEYS]


def test_nothing_set_gives_the_defaults_of_the_contract() -> None:
    chosen = Settings.parse({})
    assert chosen == Settings()
    assert (chosen.host, chosen.port, chosen.max_connections) == ("0.0.0.0", 7860, 10_000)
    assert (chosen.symbols, chosen.ohlcv_symbols) == ((), ("BTC", "ETH", "BNB", "SOL", "XRP"))
    assert (chosen.ohlcv_intervals, chosen.allowed_origins) == (("1m", "1h", "1d"), ("*",))


def test_the_example_file_lists_exactly_the_settings_with_their_true_defaults() -> None:
    listed = dotenv_values(ROOT / ".env.example")
    assert list(listed) == [name.upper() for name in NAMES]
    assert Settings.parse({name: value or "" for name, value in listed.items()}) == Settings()
    unset = {name for name, value in Settings() if value is None}
    silent = {name.lower() for name, value in listed.items() if not value}
    assert silent == unset, "a default that is not shown is not true"


def test_the_example_file_and_the_table_of_the_documentation_are_what_make_docs_prints(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    files = [Path(".env.example"), Path("docs", "operations.md")]
    shutil.copy(ROOT / files[1], tmp_path / files[1])
    printed.write(tmp_path)
    for file in files:
        assert (tmp_path / file).read_text() == (ROOT / file).read_text(), f"run make docs, which writes {file}"


def test_every_setting_has_a_row_of_its_own_with_what_it_accepts_and_means() -> None:
    rows = [line.split(" | ") for line in printed.table().splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows] == [f"| `{name.upper()}`" for name in NAMES]
    for name, _, accepts, meaning in rows:
        assert accepts, name
        assert meaning.removesuffix(" |").endswith("."), name
        assert meaning[0].isupper(), name


def test_bounds_that_a_schema_cannot_express_are_described() -> None:
    with pytest.raises(ValueError, match="must say what it accepts"):
        rule_of({"type": "array"})


def test_every_setting_reads_its_value() -> None:
    assert Settings.parse(
        {
            "HOST": "127.0.0.1",
            "PORT": "0",
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": "JSON",
            "STATE_DIR": "/tmp/x",  # noqa: S108
            "ALLOWED_ORIGINS": "https://a.example, http://b.example:8080",
            "LIGHT_CONNECTIONS": "off",
            "MAX_CONNECTIONS": "1",
            "SYMBOLS": "btc, ETH-USDT,bnb/eur,btc",
            "OHLCV_SYMBOLS": "none",
            "OHLCV_INTERVALS": "1M,1m",
            "SNAPSHOT_TTL_S": "1",
            "RING_EVENTS": "3",
            "OUTBOX_BYTES": "65536",
            "STALL_S": "1.5",
            "HEARTBEAT_S": "1",
            "IDLE_TOPIC_S": "1",
            "SHUTDOWN_S": "1",
            "MARKET_POLL_S": "1",
            "BINANCE_WS_URLS": "ws://127.0.0.1:9/,wss://b.example",
            "BINANCE_REST_URLS": "http://127.0.0.1:9",
        }
    ) == Settings(
        host="127.0.0.1",
        port=0,
        log_level="DEBUG",
        log_format="json",
        state_dir=Path("/tmp/x"),  # noqa: S108
        allowed_origins=("https://a.example", "http://b.example:8080"),
        light_connections=False,
        max_connections=1,
        symbols=("BTC", "ETH-USDT", "BNB/EUR"),
        ohlcv_symbols=(),
        ohlcv_intervals=("1M", "1m"),
        snapshot_ttl_s=1.0,
        ring_events=3,
        outbox_bytes=65536,
        stall_s=1.5,
        heartbeat_s=1.0,
        idle_topic_s=1.0,
        shutdown_s=1.0,
        market_poll_s=1.0,
        binance_ws_urls=("ws://127.0.0.1:9", "wss://b.example"),
        binance_rest_urls=("http://127.0.0.1:9",),
    )


ADDRESSES = [name.upper() for name in NAMES if name.endswith(("_url", "_urls")) and not name.startswith("binance")]

BAD = {
    "PORT": ["-1", "65536", "x", "80.5"],
    "LOG_LEVEL": ["LOUD"],
    "LOG_FORMAT": ["xml"],
    "LOG_DIR": ["lo\0gs"],
    "STATE_DIR": ["\x1b[2J"],
    "STREAM_SERVER_LOOP": ["trio"],
    "ALLOWED_ORIGINS": [
        *(
            "example.org",
            "https://example.org/path",
            "*.example.org",
            "https://*",
            "https://a.*.org",
            "null",
            "https://",
        ),
        *(",", "none,https://a.example", "*,!!"),
        *("https://user@example.org", "https://example.org?x", "https://example.org:99999", "https://*.*.org", "**"),
    ],
    "FRAME_ANCESTORS": [
        ",",
        "none,https://a.example",
        "'self'; script-src *",
        "https://a.example/path",
        "ftp://a.example",
        "https://a.*.example",
        "https://a.example\r\nX: y",
        "data:",
        "...",
        "https://-",
        "https://a.example:99999",
        "https://a.example:1*",
        "https://a.example:0",
    ],
    "AUTH_TOKENS": [",", "sesame", "alice:", ":sesame", "al ice:sesame", "alice:one,alice:two", "alice:one,bob:one"],
    "AUTH_JWT_SECRET": ["too short to sign with"],
    "AUTH_JWKS_FILE": ["/nowhere/keys.json", "/", str(ROOT / "README.md")],
    "AUTH_JWT_AUDIENCE": [",", "a\x07b", "alone"],
    "AUTH_JWT_ISSUER": [",", "https://alone.example"],
    "AUTH_JWT_ENDLESS": ["2", "perhaps"],
    "TRUSTED_PROXIES": [",", "proxy.example", "10.0.0.0/33"],
    "MAX_CONNECTIONS_PER_IP": ["-1", "many"],
    "ASK_RATE_PER_S": ["-1", "often", "0.001"],
    "MAX_DEMAND_TOPICS": ["-1", "many"],
    "MAX_DEMAND_TOPICS_PER_IP": ["-1", "many"],
    "REST_RATE_PER_S": ["-1", "nan", "fast", "0.001"],
    "METRICS_OPEN": ["2", "perhaps"],
    "LIGHT_CONNECTIONS": ["2", "perhaps"],
    "MAX_CONNECTIONS": ["0", "many"],
    "SYMBOLS": ["*,BTC", "B..TC", "B*TC", "X" * 51, ",", "!!", "BTC,!!", "BTC-", "-", "$", "BTC--USDT"],
    "OHLCV_SYMBOLS": ["*", "B*", ",", "!!", "none,BTC"],
    "OHLCV_INTERVALS": ["7m", "1m,1D", ","],
    "SNAPSHOT_TTL_S": ["0", "0.5", "nan", "inf", "-3", "soon"],
    "RING_EVENTS": ["0", "1.5"],
    "OUTBOX_BYTES": ["65535", "4MB"],
    "OUTBOX_TOTAL_BYTES": ["65536", "4GB"],
    "STALL_S": ["0", "nan"],
    "HEARTBEAT_S": ["0", "nan"],
    "IDLE_TOPIC_S": ["0", "nan"],
    "SHUTDOWN_S": ["0", "nan"],
    "PROBE_S": ["-1", "0.5", "nan", "often"],
    "MARKET_POLL_S": ["0", "nan"],
    "CACHE_TTL_S": ["0", "nan"],
    "STALE_IF_ERROR_S": ["0", "nan"],
    "NEWS_POLL_S": ["0", "nan"],
    "SENTIMENT_POLL_S": ["0", "nan"],
    "GAS_POLL_S": ["0", "nan"],
    **{name: ["two words", "schlüssel"] for name in KEYS},
    **{
        name: ["wss://a.example", "a.example", "http://", ",", "https://!!", "https://a b.example", "https://..."]
        for name in ADDRESSES
    },
    "RSS_FEEDS": [
        ",",
        "a=https://a.example,A=https://b.example",
        "a=https://!!",
        "https://a.example/feed",
        "a=ftp://a.example",
        "a b=https://a.example",
    ],
    "BINANCE_WS_URLS": [",", "https://a.example", "ws://", "wss://a.example:99999", "wss://[::1"],
    "BINANCE_REST_URLS": [",", "wss://a.example", "a.example", "https://api.binance.com,https://api.binance.us"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_a_bad_value_is_named_with_its_setting_and_what_would_be_right(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.parse({name: text})
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    (problem,) = refused.value.problems
    # A value that may contain a key is not repeated.
    silent = any(word in name for word in ("URL", "KEY", "TOKEN", "SECRET", "REDDIT", "FEEDS"))
    start = f"{name}: " if silent else f"{name}={text!r}: "
    assert problem.startswith(start)
    assert len(problem) > len(start)
    if name in (*KEYS, "AUTH_JWT_SECRET"):
        assert text not in problem


def test_only_digests_of_named_tokens_are_kept_and_no_secret_is_shown() -> None:
    secret = "a-secret-that-is-long-enough-for-it"
    chosen = Settings.parse({"AUTH_TOKENS": "alice:sesame, bob:with:colon", "AUTH_JWT_SECRET": secret})
    assert chosen.auth_tokens == {
        "alice": hashlib.sha256(b"sesame").digest(),
        "bob": hashlib.sha256(b"with:colon").digest(),
    }
    assert chosen.auth_jwt_secret == secret
    assert not any(word in repr(chosen) for word in ("sesame", "colon", secret))


def test_an_audience_or_issuer_needs_a_secret_or_a_key_file() -> None:
    alone = {"AUTH_JWT_AUDIENCE": "us, them", "AUTH_JWT_ISSUER": "https://issuer.example"}
    with pytest.raises(
        SettingsError, match=r"AUTH_JWT_AUDIENCE='us, them': needs AUTH_JWKS_FILE or AUTH_JWT_SECRET; AUTH_JWT_ISSUER="
    ):
        Settings.parse(alone)
    chosen = Settings.parse({**alone, "AUTH_JWT_SECRET": "x" * 32})
    assert (chosen.auth_jwt_audience, chosen.auth_jwt_issuer) == (("us", "them"), ("https://issuer.example",))


SECRET = "s3cr3t-marker"
HIDDEN = [name for name, rule in Settings.rules().items() if rule.hidden]
DAMAGED = [
    *("{}", "{},{}2", "{} {}", "{}\x07", "\x07{}", "{}ü", "x:{}\x07", "x:{},x:{}2", "x:{},y:{}", "x:{} {}", ":{}"),
    *("{}://a.example", "ftp://{}@a.example", "ftp://a.example/{}", "ftp://a.example?key={}", "https://a b/{}"),
    *(
        "{}:x,{}:y",
        "x=ftp://{}@a.example/{}",
        "x=https://!!/{},{}",
        "https://!!?{}",
        "wss://u:{}@!!",
        "https:{}",
        "x={}",
    ),
]


@pytest.mark.parametrize("name", HIDDEN)
def test_no_error_repeats_what_may_be_a_key(name: str) -> None:
    assert {"AUTH_TOKENS", "AUTH_JWT_SECRET", "RSS_FEEDS", "COINGECKO_URL", *KEYS} <= set(HIDDEN)
    refused = 0
    for form in DAMAGED:
        try:
            Settings.parse({name: form.replace("{}", SECRET)})
        except SettingsError as error:
            refused += 1
            shown = f"{error} {error!r} {error.problems} {error.__cause__!r} {error.__context__!r}"
            assert SECRET not in shown, form
    assert refused >= 5


def test_proxies_are_addresses_or_networks() -> None:
    chosen = Settings.parse({"TRUSTED_PROXIES": "127.0.0.1, 10.1.2.3/8,::1"})
    assert [str(each) for each in chosen.trusted_proxies or ()] == ["127.0.0.1/32", "10.0.0.0/8", "::1/128"]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("self", ("'self'",)),
        ("'NONE'", ("'none'",)),
        ("*", ("*",)),
        ("\"'self' https://Pages.example:8443\"", ("'self'", "https://pages.example:8443")),
        ("self, https://*.example.org,example.org:*", ("'self'", "https://*.example.org", "example.org:*")),
    ],
)
def test_frame_ancestors_are_parsed_as_in_a_policy_or_as_a_list(text: str, read: tuple[str, ...]) -> None:
    assert Settings.parse({"FRAME_ANCESTORS": text}).frame_ancestors == read


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("HTTPS://Example.ORG", ("https://example.org",)),
        ("https://example.org:443, http://example.org:80/", ("https://example.org", "http://example.org")),
        ("http://example.org:443,https://example.org:8443", ("http://example.org:443", "https://example.org:8443")),
        ("https://*.Example.org:443,https://*.example.org", ("https://*.example.org",)),
        ("http://[::1]:7860", ("http://[::1]:7860",)),
        ("https://bücher.example", ("https://xn--bcher-kva.example",)),
        ("capacitor://localhost", ("capacitor://localhost",)),
        ("none", ()),
    ],
)
def test_origins_have_one_spelling(text: str, read: tuple[str, ...]) -> None:
    assert Settings.parse({"ALLOWED_ORIGINS": text}).allowed_origins == read


def test_every_setting_that_can_be_wrong_is_tested_above() -> None:
    assert {name.upper() for name in NAMES} - set(BAD) == {"HOST"}


def test_all_bad_values_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.parse({name: texts[0] for name, texts in BAD.items()})
    named = [problem.partition(":")[0].partition("=")[0] for problem in refused.value.problems]
    assert sorted(named) == sorted(BAD)
    assert all(name in str(refused.value) for name in BAD)


def test_an_empty_value_is_the_default_and_spaces_do_not_matter() -> None:
    assert Settings.parse({"PORT": "", "HOST": "  "}) == Settings()
    assert Settings.parse({"PORT": " 80 "}).port == 80


def test_an_unknown_variable_is_ignored() -> None:
    assert Settings.parse({"PATH": "/bin", "PORTS": "x", "port": "x"}) == Settings()


def test_the_file_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name.upper(), raising=False)
    env_file = tmp_path / ".env"
    env_file.write_text("PORT=8001\nHEARTBEAT_S='7'\n# PORT=9\nSYMBOLS=\nUNKNOWN\n")
    monkeypatch.setenv("PORT", "8002")
    chosen = Settings.load(env_file)
    assert (chosen.port, chosen.heartbeat_s, chosen.symbols) == (8002, 7.0, ())


def test_an_empty_variable_of_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("PORT=8001\nport=8003\n")
    monkeypatch.setenv("PORT", "")
    assert Settings.load(env_file).port == Settings().port
    monkeypatch.delenv("PORT")
    monkeypatch.setenv("port", "8002")
    assert Settings.load(env_file).port == 8001, "names have upper case"


def test_the_file_may_be_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("PORT=8001\n",))
    writer.start()
    assert Settings.load(pipe).port == 8001
    writer.join()


def test_uvloop_cannot_be_chosen_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert Settings.parse({"STREAM_SERVER_LOOP": "auto"}).stream_server_loop == "auto"
    with pytest.raises(SettingsError, match=r"STREAM_SERVER_LOOP='uvloop': needs the package uvloop"):
        Settings.parse({"STREAM_SERVER_LOOP": "uvloop"})


def test_settings_made_in_code_do_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "8002")
    assert Settings().port == Settings.parse({}).port == 7860


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        setattr(Settings(), NAMES[1], 1)


def test_a_missing_file_is_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    assert Settings.load() == Settings()


def test_a_named_file_must_exist_and_be_text(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for file, said in ((tmp_path / "prod.env", "no such file"), (tmp_path, "a folder"), (tmp_path / "binary", "UTF-8")):
        with pytest.raises(SettingsError, match=said) as refused:
            Settings.load(file)
        assert str(file) in str(refused.value)


def test_bad_values_of_the_file_and_of_the_environment_are_named_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("PORT=x\n")
    monkeypatch.setenv("STALL_S", "y")
    with pytest.raises(SettingsError, match=r"PORT='x'.*STALL_S='y'"):
        Settings.load(env_file)
