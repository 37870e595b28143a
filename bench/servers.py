"""Define how each server under test is started. All accept the same URLs and publish by the same plan."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench import tools
from bench.scenarios import LOAD, Figure, Scenario

OURS = "stream-server"
BARE_C = "bare C"
NAIVE = "aiohttp, naive"
SOCKETIFY = "socketify"
NATS = "NATS"
NCHAN = "nchan"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one server: its port, a second port if it is fed over the network, and its folder."""

    port: int
    feed_port: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Launch:
    """The commands that start a server and, if it does not publish by itself, its publisher."""

    command: list[str]
    publisher: list[str] | None = None
    kind: str | None = None
    """The protocol of the load generator, if it differs from the scenario's."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Server:
    """One contestant. `launch` raises Absent if it is not available."""

    name: str
    what: str
    launch: Callable[[Scenario, Place], Launch]
    kinds: tuple[str, ...] = ("ws",)
    figures: tuple[Figure, ...] = tuple(Figure)

    def takes_part(self, scenario: Scenario) -> bool:
        """Return whether the scenario applies to this server."""
        return scenario.kind in self.kinds and scenario.figure in self.figures


def _plan(scenario: Scenario, port: int) -> list[str]:
    load = 0.0 if scenario.idle or scenario.period_s else LOAD
    return [
        *("--port", str(port), "--topics", str(scenario.topics), "--repeat", str(scenario.repeat)),
        *("--period", str(scenario.period_s), "--load", str(load)),
    ]


def _module(name: str, *more: str) -> Callable[[Scenario, Place], Launch]:
    def launch(scenario: Scenario, place: Place) -> Launch:
        extra = [text.replace("FOLDER", str(place.folder)) for text in more]
        return Launch([sys.executable, "-m", name, *_plan(scenario, place.port), *extra])

    return launch


def _peer_module(name: str, package: str) -> Callable[[Scenario, Place], Launch]:
    def launch(scenario: Scenario, place: Place) -> Launch:
        tools.python_peer("uvloop")
        python = tools.python_peer(package)
        return Launch([str(python), "-m", name, *_plan(scenario, place.port)])

    return launch


def _bare_c(scenario: Scenario, place: Place) -> Launch:
    arguments = [place.port, scenario.connections, scenario.messages_per_tick, scenario.period_s, LOAD]
    return Launch([str(tools.compiled("fanlimit")), *map(str, arguments)], kind="raw")


def _node(*more: str) -> Callable[[Scenario, Place], Launch]:
    def launch(scenario: Scenario, place: Place) -> Launch:
        environment = {"NODE_PATH": str(tools.node_modules())}
        script = str(tools.HERE / "peers" / "node_ws.js")
        return Launch(["node", script, *_plan(scenario, place.port), *more], environment=environment)

    return launch


def _publisher(scenario: Scenario, port: int, form: str) -> list[str] | None:
    if scenario.idle:
        return None
    # The driver replaces it with the server's pid.
    more = ["--format", form, "--server-pid", "PID"]
    return [sys.executable, "-m", "bench.peers.publisher", *_plan(scenario, port), *more]


def _nats(scenario: Scenario, place: Place) -> Launch:
    config = place.folder / "nats.conf"
    config.write_text(
        f"listen: 127.0.0.1:{place.feed_port}\n"
        f"websocket {{ listen: 127.0.0.1:{place.port}, no_tls: true, compression: false }}\n"
        "max_connections: 20000\n"
    )
    command = [str(tools.nats_server()), "-c", str(config)]
    return Launch(command, _publisher(scenario, place.feed_port, "nats"), kind="nats")


def _nchan(scenario: Scenario, place: Place) -> Launch:
    binary, module = tools.nchan()
    text = (tools.HERE / "peers" / "nchan.conf").read_text()
    names = {"PORT": str(place.port), "FOLDER": str(place.folder), "MODULE": str(module)}
    for name, value in names.items():
        text = text.replace(f"{name}/" if name == "FOLDER" else name, f"{value}/" if name == "FOLDER" else value)
    config = place.folder / "nginx.conf"
    config.write_text(text)
    command = [str(binary), "-p", str(place.folder), "-e", "stderr", "-c", str(config)]
    return Launch(command, _publisher(scenario, place.port, "nchan"))


COSTS_AND_LATENCY = (Figure.CPU_PER_MILLION, Figure.TICK_P99_MS, Figure.P99_MS)
SERVERS = (
    Server(OURS, "the whole service of this repository", _module("bench.ours", "--folder", "FOLDER"), ("ws", "sse")),
    Server(BARE_C, "send() of ready bytes and nothing else: the limit", _bare_c, figures=COSTS_AND_LATENCY),
    Server(NAIVE, "queue, task and send_str for each client", _module("bench.peers.naive_aiohttp")),
    Server("websockets", "its broadcast()", _module("bench.peers.websockets_broadcast")),
    Server("picows", "Cython on uvloop", _peer_module("bench.peers.picows_server", "picows")),
    Server(SOCKETIFY, "uWebSockets in C++", _peer_module("bench.peers.socketify_server", "socketify")),
    Server("node ws", "one send a message", _node()),
    Server("node ws, corked", "one write a tick", _node("--corked")),
    Server(NATS, "NATS over WebSocket, fed over TCP", _nats),
    Server(NCHAN, "nginx module, fed over HTTP", _nchan, ("ws", "sse")),
    Server("aiohttp-sse", "queue and send() for each client", _module("bench.peers.aiohttp_sse"), ("sse",)),
)
QUICK = (OURS, NAIVE, BARE_C)
