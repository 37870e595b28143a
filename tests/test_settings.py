"""Every setting: its default, what is wrong, and where it comes from."""

from dataclasses import fields
from pathlib import Path

import pytest
from dotenv import dotenv_values

from stream_server.settings import READERS, Settings, SettingsError

ROOT = Path(__file__).parent.parent
NAMES = [field.name for field in fields(Settings)]


def test_nothing_set_gives_the_defaults_of_the_contract() -> None:
    chosen = Settings.parse({})
    assert chosen == Settings()
    assert (chosen.host, chosen.port, chosen.max_connections) == ("0.0.0.0", 7860, 10_000)
    assert (chosen.symbols, chosen.ohlcv_symbols) == ((), ("BTC", "ETH", "BNB", "SOL", "XRP"))
    assert (chosen.ohlcv_intervals, chosen.allowed_origins) == (("1m", "1h", "1d"), ("*",))


def test_the_example_file_lists_exactly_the_settings_with_their_true_defaults() -> None:
    listed = dotenv_values(ROOT / ".env.example")
    assert sorted(listed) == sorted(name.upper() for name in NAMES)
    assert Settings.parse({name: value or "" for name, value in listed.items()}) == Settings()
    assert all(listed.values()), "a default that is not shown is not true"


def test_every_setting_has_a_reader() -> None:
    assert sorted(READERS) == sorted(NAMES)


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
        symbols=("BTC", "ETHUSDT", "BNBEUR"),
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


BAD = {
    "PORT": ["-1", "65536", "x", "80.5"],
    "LOG_LEVEL": ["LOUD"],
    "LOG_FORMAT": ["xml"],
    "ALLOWED_ORIGINS": ["example.org", "https://example.org/path"],
    "LIGHT_CONNECTIONS": ["2", "perhaps"],
    "MAX_CONNECTIONS": ["0", "many"],
    "SYMBOLS": ["*,BTC", "B.TC", "X" * 41],
    "OHLCV_SYMBOLS": ["*", "B*"],
    "OHLCV_INTERVALS": ["7m", "1m,1D"],
    "SNAPSHOT_TTL_S": ["0", "0.5", "nan", "inf", "-3", "soon"],
    "RING_EVENTS": ["0", "1.5"],
    "OUTBOX_BYTES": ["65535", "4MB"],
    "STALL_S": ["0", "nan"],
    "HEARTBEAT_S": ["0", "nan"],
    "IDLE_TOPIC_S": ["0", "nan"],
    "SHUTDOWN_S": ["0", "nan"],
    "MARKET_POLL_S": ["0", "nan"],
    "BINANCE_WS_URLS": [",", "https://a.example", "ws://", "wss://a.example:99999", "wss://[::1"],
    "BINANCE_REST_URLS": [",", "wss://a.example", "a.example", "https://api.binance.com,https://api.binance.us"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_a_bad_value_is_named_with_its_setting_and_what_would_be_right(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.parse({name: text})
    (problem,) = refused.value.problems
    assert problem.startswith(f"{name}={text!r}: ")
    assert len(problem) > len(f"{name}={text!r}: ")


def test_every_setting_that_can_be_wrong_is_tried_above() -> None:
    assert {name.upper() for name in NAMES} - set(BAD) == {"HOST", "STATE_DIR"}


def test_all_bad_values_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.parse({name: texts[0] for name, texts in BAD.items()})
    named = [problem.partition("=")[0] for problem in refused.value.problems]
    assert sorted(named) == sorted(BAD)
    assert all(name in str(refused.value) for name in BAD)


def test_an_empty_value_is_the_default_and_spaces_do_not_matter() -> None:
    assert Settings.parse({"PORT": "", "HOST": "  "}) == Settings()
    assert Settings.parse({"PORT": " 80 "}).port == 80


def test_what_is_no_setting_of_ours_is_ignored() -> None:
    assert Settings.parse({"PATH": "/bin", "PORTS": "x", "port": "x"}) == Settings()


def test_the_file_is_read_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name.upper(), raising=False)
    env_file = tmp_path / ".env"
    env_file.write_text("PORT=8001\nHEARTBEAT_S='7'\n# PORT=9\nSYMBOLS=\nUNKNOWN\n")
    monkeypatch.setenv("PORT", "8002")
    chosen = Settings.load(env_file)
    assert (chosen.port, chosen.heartbeat_s, chosen.symbols) == (8002, 7.0, ())


def test_a_missing_file_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name.upper(), raising=False)
    assert Settings.load(tmp_path / "none") == Settings()


def test_bad_values_of_the_file_and_of_the_environment_are_named_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("PORT=x\n")
    monkeypatch.setenv("STALL_S", "y")
    with pytest.raises(SettingsError, match=r"PORT='x'.*STALL_S='y'"):
        Settings.load(env_file)
