"""Measure five thousand clients: stalls of the event loop, growth of memory, cost of idling."""

from bench import trace
from bench.measure import Effort, load, serving
from bench.scenarios import Scenario
from bench.servers import OURS, SERVERS, Launch, Place, Server
from bench.studies.study import Findings, Lab, Study, Verdict, number

CLIENTS = 5000
STALL_GOAL_MS = 25.0
IDLE_GOAL = 0.03
FLAT_MB = 5.0
BUSY = (
    Scenario("S1", "one message to all, ten times a second", 1, 1, period_s=0.1, connections=CLIENTS),
    Scenario("S2 same", "300 topics burst each second, the same 50", 300, 50, period_s=1.0, connections=CLIENTS),
    Scenario("S2 random", "300 topics burst each second, own 50", 300, 50, True, period_s=1.0, connections=CLIENTS),
)
IDLE = Scenario("Idle", "connections without messages", 1, 1, idle=True, connections=CLIENTS)


def _traced(server: Server) -> Server:
    def launch(scenario: Scenario, place: Place) -> Launch:
        plain = server.launch(scenario, place)
        return Launch([*plain.command, "--trace", str(place.folder / "trace")])

    return Server(server.name, server.what, launch)


def run(lab: Lab) -> Findings:
    """Measure three loads, then idle clients."""
    (server,) = (server for server in SERVERS if server.name == OURS)
    found = Findings(
        [
            "",
            "stall on the clock, ms",
            "stall of ours, ms",
            "over 10 ms",
            "p99, ms",
            "load",
            "RSS at first, MB",
            "at the end",
            "",
        ]
    )
    effort = Effort(lab.seconds(5.0, 3.0), lab.seconds(60.0, 8.0))
    for scenario in BUSY:
        with serving(_traced(server), scenario, lab.cores) as target:
            (seen,) = load(target, scenario, effort, lab.cores, within_s=effort.warm_s + effort.window_s + 60)
            stalls = trace.read(target.folder / "trace", "stall", seen["began_ns"], seen["ended_ns"])
        worst = max(stalls, key=lambda line: line["late_s"], default={"late_s": 0.0, "cpu_s": 0.0})
        most_ms, cpu_ms = worst["late_s"] * 1e3, max((line["cpu_s"] for line in stalls), default=0.0) * 1e3
        lab.report(f"{scenario.key}: longest stall {most_ms:.1f} ms, most CPU in one {cpu_ms:.1f} ms")
        first, last = seen["rss_before_kb"] / 1024, seen["rss_kb"] / 1024
        found.raw.append({"scenario": scenario.key, **seen, "stall_ms": most_ms, "stall_cpu_ms": cpu_ms})
        row = [f"{scenario.key}: {scenario.title}", number(most_ms), number(cpu_ms)]
        row += [str(sum(1 for line in stalls if line["cpu_s"] > 0.010)), number(seen["p99_us"] / 1e3)]
        row += [f"{seen['server_cpu_s'] / seen['seconds']:.0%}", number(first), number(last)]
        found.rows.append([*row, f"{seen['dead']:.0f} died" if seen["dead"] else ""])
        text = f"{CLIENTS} clients, {scenario.key}:"
        shown = f"{cpu_ms:.0f} ms ({most_ms:.0f} on the clock)"
        found.verdicts += [
            Verdict(f"{text} longest stall", f"≤ {STALL_GOAL_MS:g} ms", shown, cpu_ms <= STALL_GOAL_MS),
            Verdict(f"{text} memory", f"≤ +{FLAT_MB:g} MB", f"{last - first:+.1f} MB", last - first <= FLAT_MB),
        ]
    effort = Effort(2.0, lab.seconds(60.0, 22.0))
    with serving(server, IDLE, lab.cores) as target:
        (seen,) = load(target, IDLE, effort, lab.cores, within_s=effort.warm_s + effort.window_s + 60)
    busy = seen["server_cpu_s"] / seen["seconds"]
    lab.report(f"idle: {busy:.2%} of a core")
    memory = [number(seen[key] / 1024) for key in ("rss_before_kb", "rss_kb")]
    found.rows.append([f"{IDLE.key}: {IDLE.title}", "", "", "", "", f"{busy:.1%}", *memory, ""])
    found.raw.append({"scenario": IDLE.key, **seen})
    text = f"{CLIENTS} idle clients: of a core"
    found.verdicts.append(Verdict(text, f"≤ {IDLE_GOAL:.0%}", f"{busy:.1%}", busy <= IDLE_GOAL))
    return found


STUDY = Study(
    "Crowd",
    f"{CLIENTS} clients: stalls, memory, idling",
    "A timer in the server's event loop records how late it fires. Only the time for which the loop's own thread had "
    "the CPU counts as a stall; on the clock it may be longer when another process had the core.",
    run,
)
