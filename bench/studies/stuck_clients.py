"""Measure what clients that read slowly or not at all cost the others."""

import math
from statistics import median

from bench.measure import Effort, load, serving
from bench.scenarios import Scenario
from bench.servers import OURS, SERVERS
from bench.studies.study import Findings, Lab, Study, Verdict, spread

GOAL = 1.05
SCENARIO = Scenario("Stuck clients", "50 topics, ten times a second", 50, 50, period_s=0.1, connections=2000)
FLAT_MB = 5.0
POOR = SCENARIO.connections // 100
TURNS, QUICK_TURNS = 8, 4


def run(lab: Lab) -> Findings:
    """Measure alternating windows without and with them, with one process and the same other clients."""
    (server,) = (server for server in SERVERS if server.name == OURS)
    effort = Effort(lab.seconds(5.0, 4.0), lab.seconds(6.0, 4.0))
    turns = QUICK_TURNS if lab.quick else TURNS
    turns = max(turns, 2 * math.ceil(lab.minutes * 60 / (effort.warm_s + effort.window_s) / 2))
    with serving(server, SCENARIO, lab.cores) as target:
        more = ["--slow", str(POOR), "--stuck", str(POOR), "--alternate", str(turns)]
        within_s = 60 + turns * (effort.warm_s + effort.window_s + 12)
        seen = load(target, SCENARIO, effort, lab.cores, *more, within_s=within_s)
    without, with_them = seen[0::2], seen[1::2]
    found = Findings(["", "p50, ms", "p99, ms", "burst p99, ms", "load", "RSS, MB"], raw=list(map(dict, seen)))
    for name, windows in (("without them", without), (f"with {POOR} stuck and {POOR} slow", with_them)):
        figures = [spread(window[key] / 1e3 for window in windows) for key in ("p50_us", "p99_us", "tick_p99_us")]
        busy = median(window["server_cpu_s"] / window["seconds"] for window in windows)
        found.rows.append([name, *figures, f"{busy:.0%}", spread(window["rss_kb"] / 1024 for window in windows)])
    ratio = median(b["p99_us"] / a["p99_us"] for a, b in zip(without, with_them, strict=True))
    lab.report(f"p99 of the others {ratio:.3f} times that without them")
    found.verdicts.append(Verdict("p99 of the others", f"≤ {GOAL:g}×", f"{ratio:.2f}×", ratio <= GOAL))
    if len(without) > 2:  # the first window still contains the effects of the start
        grown = (without[-1]["rss_kb"] - without[1]["rss_kb"]) / 1024
        minutes = turns * (effort.warm_s + effort.window_s) / 60
        text = f"memory after the last of them left, compared to after the first, over {minutes:.1f} minutes"
        found.verdicts.append(Verdict(text, f"≤ +{FLAT_MB:g} MB", f"{grown:+.1f} MB", grown <= FLAT_MB))
    dead = max(window["dead"] - window["dead_poor"] for window in seen)
    found.remarks.append(f"{dead:.0f} of the others lost their connection.")
    age = [window["age_p99_us"] / 1e6 for window in with_them]
    found.remarks.append(f"The slow ones read values that are {spread(age)} s old (p99), from their first second on.")
    return found


STUDY = Study(
    "Stuck clients",
    "what stuck and slow clients cost the others",
    f"2000 clients get the same 50 topics ten times a second. In every other window {POOR} clients that never read and "
    f"{POOR} that read at a quarter of the rate connect as well; the median of the ratios of neighbouring windows "
    "counts.",
    run,
)
