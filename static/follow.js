/**
 * Follows topics for one panel: keeps their newest values, and says beside them what every panel says: the source,
 * the age, that they are stale, or why there are none.
 *
 * A panel needs a `.vitals` for the first and a `.why` for the last; its `data-state` is `empty`, `live` or `stale`.
 */

import { parseId } from "./client.js";
import { perFrame, setData, setText } from "./dom.js";
import { formatAge, formatWord } from "./format.js";

const BEFORE_RESTART = "the server has restarted and has no newer value";

/**
 * Selectors are topics, or `word.*`. `draw` runs at most once a frame after a change; `facts`, if given, replaces the
 * default `{ sources, ts, stale }` beside the title. Returns the values by topic: `{ data, ts, received, source, stale }`.
 */
export function follow(client, status, panel, { selectors, except = [], category, draw, facts }) {
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

  client.on("update", ({ topic, id, data, ts, received, source }) => {
    if (!ours(topic)) return;
    values.set(topic, { data, ts, received, source, stale: null, epoch: parseId(id)?.epoch });
    redraw();
  });
  client.on("stale", ({ topic, age_ms, reason }) => {
    const value = values.get(topic);
    if (!value) return;
    value.stale = { since: performance.now() - age_ms, reason: formatWord(reason) };
    redraw();
  });
  client.on("fresh", ({ topic }) => {
    const value = values.get(topic);
    if (!value) return;
    value.stale = null;
    redraw();
  });
  client.on("synced", ({ id }) => {
    const epoch = parseId(id)?.epoch;
    for (const value of values.values()) {
      if (value.epoch === epoch || value.stale) continue;
      value.stale = { since: performance.now() - (client.serverNow() - value.ts), reason: BEFORE_RESTART };
      redraw();
    }
  });
  client.on("error", ({ topics, message }) => {
    for (const topic of topics) if (selectors.includes(topic)) refused.set(topic, message);
    if (refused.size) showState();
  });
  status.addEventListener("change", showState);

  function showState() {
    const { stale } = (facts ?? overall)(values);
    setData(panel, "state", values.size ? (stale ? "stale" : "live") : "empty");
    if (values.size) return;
    setText(why, reason());
    why.title = why.textContent;
  }

  function reason() {
    if (refused.size === selectors.length) return `Not served here: ${[...refused.values()][0]}`;
    const failure = status.failureOf(category);
    return `No value yet: ${failure ?? "waiting for the first one"}`;
  }

  function showVitals() {
    if (!values.size) return setText(vitals, "");
    const { sources, ts, stale } = (facts ?? overall)(values);
    const age = stale ? `stale for ${formatAge(performance.now() - stale.since)}` : `${formatAge(client.serverNow() - ts)} ago`;
    setText(vitals, [sources.join(", "), age, stale?.reason].filter(Boolean).join(" · "));
    vitals.title = vitals.textContent;
  }

  showState();
  setInterval(showVitals, 1000);
  client.subscribe(selectors);
  return values;
}

/** Several topics are as old as their newest, and stale when all of them are: each shows its own staleness besides. */
export function overall(values) {
  const all = [...values.values()];
  const stale = all.length > 0 && all.every((value) => value.stale);
  return {
    sources: [...new Set(all.map(({ source }) => source))].sort(),
    ts: Math.max(...all.map(({ ts }) => ts)),
    stale: stale ? all.reduce((a, b) => (a.stale.since > b.stale.since ? a : b)).stale : null,
  };
}
