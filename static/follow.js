/**
 * Follows topics for one panel: collects their newest values, and shows beside them what every panel shows: the
 * source, the age, whether they are stale, or why there are none.
 *
 * A panel needs a `.vitals` for source and age, and a `.why` for the cause; its `data-state` is `empty`, `live` or `stale`.
 */

import { perFrame, setData, setText } from "./dom.js";
import { formatAge } from "./format.js";

/**
 * Selectors are topics, or `word.*`. `draw` runs at most once a frame after a change; `facts`, if given, replaces the
 * default `{ sources, ts, stale }` beside the title. Returns the values by topic.
 */
export function follow(client, truth, status, panel, { selectors, except = [], category, draw, facts }) {
  const values = new Map();
  const [vitals, why] = [".vitals", ".why"].map((part) => panel.querySelector(part));
  const exact = selectors.filter((selector) => !selector.endsWith("*"));
  const prefixes = selectors.filter((selector) => selector.endsWith("*")).map((selector) => selector.slice(0, -1));
  const refused = new Map();

  const ours = (topic) =>
    exact.includes(topic) || (prefixes.some((prefix) => topic.startsWith(prefix)) && !except.includes(topic));

  const redraw = perFrame(() => {
    draw(values);
    showState();
    showVitals();
  });

  truth.onTopic((topic) => {
    if (!ours(topic)) return;
    values.set(topic, truth.values.get(topic));
    redraw();
  });
  truth.onLink(() => {
    showState();
    showVitals();
  });
  client.on("error", ({ topics, message }) => {
    for (const topic of topics) if (selectors.includes(topic)) refused.set(topic, message);
    if (refused.size) showState();
  });
  status.addEventListener("change", showState);

  function showState() {
    const holds = truth.ofValue((facts ?? overall)(values)).state === "live";
    setData(panel, "state", values.size ? (holds ? "live" : "stale") : "empty");
    if (values.size) return;
    setText(why, reason());
    why.title = why.textContent;
  }

  function reason() {
    if (truth.link.name !== "live" && truth.link.name !== "connecting") return `No value yet: ${truth.link.words.toLowerCase()}`;
    if (refused.size === selectors.length) return `Not served here: ${[...refused.values()][0]}`;
    const failure = status.failureOf(category);
    return `No value yet: ${failure ?? "waiting for the first one"}`;
  }

  function showVitals() {
    if (!values.size) return setText(vitals, "");
    const shown = (facts ?? overall)(values);
    const { state, ageMs, reason } = truth.ofValue(shown);
    const age = state === "stale" ? `stale for ${formatAge(ageMs)}` : `${formatAge(ageMs)} ago`;
    setText(vitals, [shown.sources.join(", "), age, reason].filter(Boolean).join(" · "));
    vitals.title = vitals.textContent;
  }

  showState();
  setInterval(showVitals, 1000);
  client.subscribe(selectors);
  return values;
}

/** Return the facts of several topics: as old as the newest, stale if all are. Each also shows its own staleness. */
export function overall(values) {
  const all = [...values.values()];
  const stale = all.length > 0 && all.every((value) => value.stale);
  return {
    sources: [...new Set(all.map(({ source }) => source))].sort(),
    ts: Math.max(...all.map(({ ts }) => ts)),
    stale: stale ? all.reduce((a, b) => (a.stale.since > b.stale.since ? a : b)).stale : null,
  };
}
