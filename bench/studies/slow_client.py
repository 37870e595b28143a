"""Measure the age of the values read by a client that takes a quarter of what is sent."""

from dataclasses import replace

from bench.measure import Effort, load, serving
from bench.processes import Failed
from bench.scenarios import Scenario
from bench.servers import NAIVE, OURS, SERVERS
from bench.studies.study import Findings, Lab, Study, Verdict, number
from bench.tools import Absent

GOAL_S = 2.0
SHARE = 0.25
WARM_S, SELDOM_WARM_S = 20.0, 50.0
OFTEN = Scenario("Slow client", "300 topics, 10/s", topics=300, each=300, period_s=0.1)
SELDOM = Scenario("Slow client", "300 topics, 1/s", topics=300, each=300, period_s=1.0)
MANY = Scenario("Slow client", "1000 topics, 1/s", topics=1000, each=1000, period_s=1.0)
SSE = Scenario("Slow client", "300 topics, 10/s, over SSE", topics=300, each=300, period_s=0.1, kind="sse")
QUICK_TRIALS = ((OURS, OFTEN, 200), (OURS, MANY, 50), (OURS, SSE, 200), (NAIVE, OFTEN, 10))
TRIALS = (
    (OURS, OFTEN, 200),
    (OURS, OFTEN, 10),
    (OURS, SELDOM, 200),
    (OURS, MANY, 50),
    (OURS, SSE, 200),
    (NAIVE, OFTEN, 10),
    ("websockets", OFTEN, 10),
    ("node ws, corked", OFTEN, 10),
)


def run(lab: Lab) -> Findings:
    """Measure one slow client among fast ones."""
    head = [
        "",
        "",
        "others",
        "age p50, s",
        "p99, s",
        "max, s",
        "values/s read",
        "topics seen",
        "others p99, ms",
        "load",
    ]
    found = Findings([*head, ""])
    servers = {server.name: server for server in SERVERS}
    for name, kind, others in QUICK_TRIALS if lab.quick else TRIALS:
        scenario = replace(kind, connections=others + 1)
        # Slow data fills the kernel's buffers slowly, and only the pings of HEARTBEAT_S reveal it.
        effort = Effort(SELDOM_WARM_S if kind is SELDOM else WARM_S, lab.seconds(20.0, 15.0))
        try:
            with serving(servers[name], scenario, lab.cores) as target:
                query = "topics=price.*" if kind is MANY else None
                more = ["--slow", "1", "--share", str(SHARE)]
                (seen,) = load(target, scenario, effort, lab.cores, *more, query=query)
            if not seen["messages"]:
                raise Failed("no messages came")
        except (Absent, Failed) as problem:
            found.rows.append([name, kind.title, str(others), *[""] * 7, str(problem)])
            continue
        lab.report(f"{name}, {kind.title}, {others} others: p99 {seen['age_p99_us'] / 1e6:.2f} s")
        found.raw.append({"server": name, "scenario": kind.title, "others": others, **seen})
        age = [number(seen[key] / 1e6) for key in ("age_p50_us", "age_p99_us", "age_max_us")]
        rate, load_ = seen["slow_messages"] / seen["seconds"], seen["server_cpu_s"] / seen["seconds"]
        remark = "it was cut" if seen["dead_poor"] else "" if seen["slow_messages"] else "it read nothing"
        row = [name, kind.title, str(others), *age, number(rate), f"{seen['slow_topics']:.0f} of {kind.topics}"]
        found.rows.append([*row, number(seen["p99_us"] / 1e3), f"{load_:.0%}", remark])
        if name == OURS:
            reached = seen["age_p99_us"] / 1e6
            text = f"slow client, {kind.title}, {others} others"
            met = reached <= GOAL_S and not remark
            whole = seen["slow_topics"] >= kind.topics
            shown = f"{seen['slow_topics']:.0f} of {kind.topics}"
            found.verdicts += [
                Verdict(f"{text}: age of what it reads, p99", f"≤ {GOAL_S:g} s", f"{reached:.2f} s", met),
                Verdict(f"{text}: topics that it receives", "all", shown, whole),
            ]
    return found


STUDY = Study(
    "Slow client",
    "the age of what a slow client reads",
    "One client reads at a quarter of the rate at which the others get their topics, evenly as through a narrow line. "
    f"The age of a value is the time from its publication until that client has read it, measured from {WARM_S:.0f} s "
    f"after the client connected ({SELDOM_WARM_S:.0f} s at 300 topics, 1/s). The number of topics that it receives at "
    "all in those 20 s counts as well. The server pings a WebSocket client to learn what it has read, and sends no "
    "more than it can take; over SSE only the transport's buffer shows it. A queue with a task for each client cannot "
    "carry 200 such clients, so the other servers serve 10.",
    run,
)
