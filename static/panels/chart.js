/** Shows candles of the selected symbol: history from REST, then the stream from that answer's position. */

import { Backoff } from "../backoff.js";
import { make, perFrame, setData, setText } from "../dom.js";
import { formatAge, formatCompact, formatPrice, formatTime } from "../format.js";
import { getJson } from "../rest.js";
import { mountView } from "./chartview.js";

const PAGE = 500;
const FIRST_RETRY_MS = 15_000;
const MOST_RETRY_MS = 300_000;
// Candles that no exchange streams are polled, as often as such a source has new ones.
const POLL_MS = 60_000;
const STREAM_WITHIN_MS = 20_000;
// Repeated `gap` messages must not cause a loop of history requests.
const RELOAD_MS = 5_000;

export function mountChart(client, truth, selection, notice) {
  const byId = (id) => document.getElementById(id);
  const [holder, message, note, legend, back] = ["chart", "chart-message", "chart-note", "chart-legend", "back-to-live"].map(byId);
  const view = mountView(holder);
  const backoff = new Backoff(FIRST_RETRY_MS, MOST_RETRY_MS);
  const unstreamed = new Map(); // topic → why it is not streamed

  let candles = new Map(); // open_time → candle, ascending
  let topic = null; // of the candles shown; null until their history is here
  let subscribed = null;
  let run = new AbortController(); // the selection being shown; aborted by the next
  let timer = null;
  let hovered = null;
  let answered = null; // the newest history: { source, since, stale }
  let failure = null; // why there is no history
  let reachesBack = false; // older history may exist
  let redrawAll = false;

  // --- history, then live

  async function load({ keep = false } = {}) {
    run.abort();
    clearTimeout(timer);
    run = new AbortController();
    const { signal } = run;
    const { symbol, interval } = selection;
    topic = null;
    if (!keep) clear(symbol, interval);

    let position = null;
    try {
      const answer = await history({ symbol, interval }, signal);
      candles = merged(answer.data, answer.source ?? "");
      ({ position } = answer);
      answered = { source: answer.source ?? "", since: performance.now() - (answer.age_ms ?? 0), stale: Boolean(answer.stale) };
      failure = null;
      backoff.reset();
      if (!candles.size) showMessage(`There are no candles of ${symbol} ${interval} yet. The first one appears here as it forms.`);
    } catch (error) {
      if (signal.aborted) return;
      failure = error;
    }
    if (signal.aborted) return;

    if (failure) {
      showMessage(`There is no history of ${symbol} ${interval}.\n${failure.message}`);
      // An invalid symbol stays invalid, so there is no retry.
      const hopeless = failure.status >= 400 && failure.status < 500 && failure.status !== 429;
      if (hopeless) {
        follow(null);
        return draw();
      }
      again(backoff.next(failure.retryAfterMs ?? 0));
    }
    // The stream uses canonical symbols, whatever spelling the link used.
    const name = candles.values().next().value?.symbol ?? symbol;
    if (name !== symbol) return selection.set({ symbol: name }, { replace: true });
    follow(`ohlcv.${symbol}.${interval}`, position);
    redrawAll = true;
    draw();
  }

  function clear(symbol, interval) {
    candles = new Map();
    answered = failure = hovered = null;
    reachesBack = false;
    redrawAll = true;
    backoff.reset();
    holder.setAttribute("aria-label", `Candle chart of ${symbol}, ${interval}`);
    setData(holder, "symbol", symbol);
    setData(holder, "interval", interval);
    showMessage(`Loading ${symbol} ${interval}…`);
    draw();
  }

  /** Return these candles, with the earlier ones that are already held if they join without a hole. */
  function merged(rows, source) {
    const first = rows[0]?.open_time;
    const held = [...candles.values()];
    const older = held.filter(({ open_time }) => open_time < first);
    // Candles of another source are another series.
    const joins = source === answered?.source && held.some(({ open_time }) => open_time === first);
    reachesBack = joins && older.length ? reachesBack : rows.length >= PAGE; // a source that returns fewer has no more
    return new Map([...(joins ? older : []), ...rows].map((candle) => [candle.open_time, candle]));
  }

  /** Leave one topic for the next in one step: over SSE each step is a new stream. */
  function follow(next, since = null) {
    if (subscribed && subscribed !== next) truth.forget(subscribed);
    if (subscribed) client.unsubscribe([subscribed]);
    topic = subscribed = next;
    if (unstreamed.has(next)) subscribed = null;
    if (subscribed) client.subscribe([next], { since });
    if (next && !failure) again(POLL_MS, () => !isStreamed());
  }

  /** Return whether the stream has sent anything for this chart. */
  const isStreamed = () => Boolean(subscribed) && truth.values.has(topic);

  /** Ask for the history again later, if it is still wanted; while the server does not answer, once it answers. */
  function again(inMs, wanted = () => true) {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (!wanted()) return;
      if (truth.link.name === "live") load({ keep: true });
      else again(inMs, wanted);
    }, inMs);
  }

  function history({ symbol, interval, end }, signal) {
    const query = new URLSearchParams({ symbol, interval, limit: PAGE, ...(end && { end }) });
    return getJson(`/api/market/ohlc?${query}`, { signal });
  }

  async function loadOlder() {
    const { signal } = run;
    const [first] = candles.keys();
    reachesBack = false;
    try {
      const answer = await history({ symbol: selection.symbol, interval: selection.interval, end: first - 1 }, signal);
      if (signal.aborted) return;
      const older = answer.data.filter(({ open_time }) => open_time < first);
      if (!older.length) return;
      candles = new Map([...older.map((candle) => [candle.open_time, candle]), ...candles]);
      reachesBack = answer.data.length >= PAGE;
      redrawAll = true;
      draw();
    } catch {
      // The shown candles stay right; scrolling back after a change of chart asks again.
    }
  }

  client.on("update", ({ topic: from, data }) => {
    if (from !== topic || (candles.get(data.open_time)?.closed && !data.closed)) return;
    const newest = [...candles.keys()].at(-1) ?? -Infinity;
    candles.set(data.open_time, data);
    if (data.open_time < newest) {
      candles = new Map([...candles].sort(([a], [b]) => a - b));
      redrawAll = true;
    }
    draw();
  });
  client.on("gap", ({ topic: from, reason, from: first, to }) => {
    if (from !== topic) return;
    // Candles that the server still has are repaired silently; candles that the exchange lacks are lost.
    if (reason === "upstream") notice.show("gap", `The source has no candles of ${from} from ${formatTime(first)} to ${formatTime(to)}.`);
    again(candles.size ? RELOAD_MS * Math.random() : RELOAD_MS);
  });
  client.on("error", ({ code, topics, message: words }) => {
    if (!topics.includes(topic)) return;
    unstreamed.set(topic, code === "unknown_topic" ? `no exchange here lists ${selection.symbol}` : words);
    subscribed = null;
    again(POLL_MS);
    if (!candles.size) showMessage(`There are no candles of ${selection.symbol} ${selection.interval}: ${unstreamed.get(topic)}.`);
    draw();
  });
  truth.onTopic((changed) => changed === topic && draw());
  truth.onLink(() => {
    // A source that has recovered may have the missing candles.
    if (truth.link.name === "live" && failure) again(RELOAD_MS * Math.random());
    draw();
  });

  // --- display

  /** Return whether the newest candle holds, by `truth`; `asked` if it is polled and not streamed. */
  function mark() {
    if (isStreamed()) return truth.of(topic);
    if (!answered) return { state: "none", ageMs: null, reason: "" };
    const ageMs = performance.now() - answered.since;
    if (answered.stale) return { state: "stale", ageMs, reason: "the source cannot be reached" };
    return { state: truth.link.name === "live" ? "asked" : "cut", ageMs, reason: "" };
  }

  const draw = perFrame(() => {
    const list = [...candles.values()];
    const last = list.at(-1);
    if (redrawAll) view.reset(list);
    else if (last) view.update(last);
    redrawAll = false;
    if (last) message.hidden = true;
    setData(holder, "candles", candles.size);
    setData(holder, "lastClose", last?.close);
    setData(holder, "lastState", last?.state);
    showLegend();
    showNote();
  });

  function showMessage(words) {
    setText(message, words);
    message.hidden = false;
  }

  function showLegend() {
    const candle = candles.get(hovered) ?? [...candles.values()].at(-1);
    if (!candle) return legend.replaceChildren();
    const decimals = view.decimals;
    const facts = ["open", "high", "low", "close"].map((key) => [key[0].toUpperCase(), formatPrice(candle[key], decimals)]);
    facts.push(["Vol", formatCompact(candle.volume)]);
    legend.replaceChildren(
      make("time", { datetime: new Date(candle.open_time).toISOString(), text: formatTime(candle.open_time) }),
      ...facts.map(([name, text]) => make("span", {}, make("i", { text: name }), ` ${text}`)),
      stateOf(candle),
    );
    setData(legend, "sign", Math.sign(candle.close - candle.open));
  }

  /** Describe the state of a candle: "live" only if the stream still moves it. */
  function stateOf(candle) {
    const { state, ...rest } = mark();
    if (candle.state !== "live" || state === "live") return make("span", { className: `candle-${candle.state}`, text: candle.state });
    const text = truth.warningOf({ state, ...rest }) || `as of ${formatAge(rest.ageMs)} ago`;
    return make("span", { className: "candle-old", text });
  }

  function showNote() {
    const { state, ageMs, reason } = mark();
    const lost = state === "stale" || state === "cut";
    setData(holder, "stale", lost ? "true" : null);
    // Without candles, the message in place of the chart shows it.
    if (!candles.size) return setText(note, "");
    const last = [...candles.values()].at(-1);
    const source = (isStreamed() && truth.values.get(topic).source) || answered?.source;
    const asked = unstreamed.has(topic) ? `${unstreamed.get(topic)}: asked every minute` : "not streamed now: asked every minute";
    // The stream needs a moment for its first message too.
    const old = state === "asked" && (unstreamed.has(topic) || ageMs > STREAM_WITHIN_MS);
    const parts = [
      source, last.derived_from && `derived from ${last.derived_from}`,
      failure && `history is missing: ${failure.message}`,
      old && `${asked}, ${formatAge(ageMs)} old`,
      lost && `${truth.warningOf({ state, ageMs })}${state === "stale" && reason ? ` (${reason})` : ""}`,
      `${candles.size} candles, UTC`,
    ];
    setText(note, parts.filter(Boolean).join(" · "));
    setData(note, "warn", lost || failure || old ? "" : null);
  }

  view.onHover((openTime) => {
    hovered = openTime;
    showLegend();
  });
  view.onNearStart(() => reachesBack && loadOlder());
  view.onAway((away) => { back.hidden = !away; });
  back.addEventListener("click", () => view.toEnd());
  selection.addEventListener("change", () => load());
  setInterval(() => {
    showLegend();
    showNote();
  }, 1_000);
  load();
}
