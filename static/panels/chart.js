/** Candles of the selected symbol: history from REST, then the stream from that answer's position. */

import { make, perFrame, setData, setText } from "../dom.js";
import { decimalsIn, formatAge, formatCompact, formatPercent, formatPrice, formatTime } from "../format.js";
import { getJson } from "../rest.js";
import { INTERVALS } from "../selection.js";

const BUTTONS = ["1m", "5m", "15m", "1h", "4h", "1d"];
const PRICE = "price.";
const PAGE = 500;
const RETRY_MS = 15_000;
// A server that keeps saying "gap" must not make us ask for history in a loop.
const RELOAD_MS = 5_000;

export function mountChart(client, selection) {
  const byId = (id) => document.getElementById(id);
  const [holder, message, note, legend] = ["chart", "chart-message", "chart-note", "chart-legend"].map(byId);
  const view = mountView(holder);

  const quotes = new Map(); // price topic → { data, stale }
  let candles = new Map(); // open_time → candle, ascending
  let topic = null; // of the candles shown; null until their history is here
  let subscribed = null;
  let run = new AbortController(); // the selection being shown; aborted by the next
  let timer = null;
  let hovered = null;
  let origin = ""; // "binance", or what is wrong with the history
  let stale = null;
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
    stale = null;
    reachesBack = false;
    if (!keep) {
      candles = new Map();
      origin = "";
      hovered = null;
      redrawAll = true;
      setData(holder, "symbol", symbol);
      setData(holder, "interval", interval);
      showSelection();
      say(`Loading ${symbol} ${interval}…`);
      draw();
    }

    let position = null;
    let failure = null;
    try {
      const answer = await history({ symbol, interval }, signal);
      candles = new Map(answer.data.map((candle) => [candle.open_time, candle]));
      ({ position } = answer);
      origin = answer.source ?? "";
      reachesBack = answer.data.length >= PAGE; // a source that gives less has no more
      if (answer.stale) stale = { since: performance.now() - (answer.age_ms ?? 0), reason: "the source cannot be reached" };
      if (!candles.size) say(`No candles of ${symbol} ${interval} yet. The first will appear here when it forms.`);
    } catch (error) {
      if (signal.aborted) return;
      failure = error;
    }
    if (signal.aborted) return;

    if (failure) {
      origin = `no history: ${failure.message}`;
      say(`No history of ${symbol} ${interval}.\n${failure.message}`);
      // What cannot exist will not exist in 15 s either.
      const hopeless = failure.status >= 400 && failure.status < 500 && failure.status !== 429;
      if (hopeless) {
        follow(null);
        return draw();
      }
      timer = setTimeout(() => load({ keep: true }), failure.retryAfterMs ?? RETRY_MS);
    }
    // The stream speaks of symbols by their own name, whatever spelling the link used.
    const name = candles.values().next().value?.symbol ?? symbol;
    if (name !== symbol) return selection.set({ symbol: name }, { replace: true });
    follow(`ohlcv.${symbol}.${interval}`, position);
    redrawAll = true;
    draw();
  }

  /** Leave one topic for the next in one step: over SSE each step is a new stream. */
  function follow(next, since = null) {
    if (subscribed) client.unsubscribe([subscribed]);
    if (next) client.subscribe([next], { since });
    topic = subscribed = next;
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
      // What is shown stays right; scrolling back again after a change of chart asks anew.
    }
  }

  const reloadSoon = () => {
    clearTimeout(timer);
    timer = setTimeout(() => load({ keep: true }), candles.size ? RELOAD_MS * Math.random() : RELOAD_MS);
  };

  client.on("update", ({ topic: from, data, source }) => {
    if (from.startsWith(PRICE)) keepQuote(from, { data, stale: null });
    if (from !== topic) return;
    stale = null;
    if (candles.get(data.open_time)?.closed && !data.closed) return;
    const newest = [...candles.keys()].at(-1) ?? -Infinity;
    candles.set(data.open_time, data);
    if (data.open_time < newest) {
      candles = new Map([...candles].sort(([a], [b]) => a - b));
      redrawAll = true;
    }
    if (!origin.startsWith("no history")) origin = source;
    draw();
  });
  client.on("stale", (message) => {
    keepQuote(message.topic, { stale: { since: performance.now() - message.age_ms, reason: message.reason } });
    if (message.topic !== topic) return;
    stale = { since: performance.now() - message.age_ms, reason: message.reason };
    draw();
  });
  client.on("fresh", (message) => {
    keepQuote(message.topic, { stale: null });
    if (message.topic !== topic) return;
    stale = null;
    draw();
  });
  client.on("gap", (message) => message.topic === topic && reloadSoon());
  client.on("error", ({ topics, message: words }) => {
    if (!topics.includes(topic)) return;
    origin = `no live candles: ${words}`;
    if (!candles.size) say(`No live candles of ${selection.symbol} ${selection.interval}.\n${words}`);
    draw();
  });

  // --- what is seen

  const drawQuote = perFrame(showQuote);
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
    setData(holder, "stale", stale ? "true" : null);
    showLegend();
    showNote();
  });

  function say(words) {
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
      make("span", { className: `candle-${candle.state}`, text: candle.state }),
    );
    setData(legend, "sign", Math.sign(candle.close - candle.open));
  }

  function showNote() {
    const age = stale && `stale for ${formatAge(performance.now() - stale.since)}${stale.reason ? ` (${stale.reason})` : ""}`;
    const derived = [...candles.values()].at(-1)?.derived_from;
    // Without candles, the message in the chart's place has said it.
    if (!candles.size) return setText(note, "");
    setText(note, [origin, derived && `derived from ${derived}`, age, candles.size && `${candles.size} candles, UTC`].filter(Boolean).join(" · "));
    setData(note, "warn", stale || origin.startsWith("no ") ? "" : null);
  }

  /** Remember the quote of every symbol: one just chosen should not wait for its next change. */
  function keepQuote(from, news) {
    if (!from.startsWith(PRICE)) return;
    quotes.set(from, { ...quotes.get(from), ...news });
    if (from === PRICE + selection.symbol) drawQuote();
  }

  function showQuote() {
    const { data = {}, stale: old } = quotes.get(PRICE + selection.symbol) ?? {};
    const { symbol = selection.symbol, quote, price, change_24h_pct, high_24h, low_24h, volume_24h } = data;
    setData(byId("quote"), "stale", old ? "true" : null);
    setText(byId("quote-age"), old ? `stale for ${formatAge(performance.now() - old.since)}` : "");
    byId("quote-age").title = old?.reason ?? "";
    setText(byId("chart-title"), quote ? `${symbol}/${quote}` : symbol);
    setText(byId("quote-price"), formatPrice(price));
    setText(byId("quote-change"), formatPercent(change_24h_pct));
    setData(byId("quote-change"), "sign", Math.sign(change_24h_pct ?? 0));
    const facts = { high: formatPrice(high_24h), low: formatPrice(low_24h), volume: formatCompact(volume_24h) };
    for (const [name, text] of Object.entries(facts)) setText(byId("quote-facts").querySelector(`[data-fact=${name}]`), text);
    document.title = `${formatPrice(price)} ${symbol} · stream-server`;
  }

  function showSelection() {
    const { symbol, interval } = selection;
    showQuote();
    holder.setAttribute("aria-label", `Candle chart of ${symbol}, ${interval}`);
    for (const button of byId("interval").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", button.value === interval);
    }
    more.value = BUTTONS.includes(interval) ? "" : interval;
    setData(byId("interval"), "value", interval);
  }

  const more = make("select", { "aria-label": "More intervals" }, make("option", { value: "", text: "More", hidden: "" }));
  for (const interval of INTERVALS) {
    if (BUTTONS.includes(interval)) byId("interval").append(make("button", { type: "button", value: interval, text: interval }));
    else more.append(make("option", { value: interval, text: interval }));
  }
  byId("interval").append(more);
  byId("interval").addEventListener("click", ({ target }) => {
    if (target.matches("button")) selection.set({ interval: target.value });
  });
  more.addEventListener("change", () => selection.set({ interval: more.value }));

  view.onHover((openTime) => {
    hovered = openTime;
    showLegend();
  });
  view.onNearStart(() => reachesBack && loadOlder());
  selection.addEventListener("change", () => load());
  setInterval(() => {
    if (stale) showNote();
    showQuote();
  }, 1000);
  load();
}

/** The drawing: candles and volume in; hovered open time and scroll position out. */
function mountView(holder) {
  const { CandlestickSeries, HistogramSeries, CrosshairMode, createChart } = globalThis.LightweightCharts;
  const chart = createChart(holder, {
    autoSize: true,
    layout: { attributionLogo: true },
    crosshair: { mode: CrosshairMode.Normal },
    timeScale: { timeVisible: true, rightOffset: 4, minBarSpacing: 1 },
  });
  const price = chart.addSeries(CandlestickSeries, { borderVisible: false });
  const volume = chart.addSeries(HistogramSeries, {
    priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false,
  });
  price.priceScale().applyOptions({ scaleMargins: { top: 0.08, bottom: 0.22 } });
  volume.priceScale().applyOptions({ scaleMargins: { top: 0.84, bottom: 0 } });

  let colors = {};
  let shown = [];
  const view = { decimals: 2 };

  const bar = ({ open_time, open, high, low, close }) => ({ time: open_time / 1000, open, high, low, close });
  const column = ({ open_time, open, close, volume: value }) => ({
    time: open_time / 1000, value: value ?? 0, color: close < open ? colors["--down-wash"] : colors["--up-wash"],
  });

  function paint() {
    const style = getComputedStyle(document.documentElement);
    const names = ["--panel", "--muted", "--grid", "--line", "--up", "--down", "--up-wash", "--down-wash"];
    // Registered in style.css as colours, so that they read as values the canvas understands.
    colors = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(name)]));
    chart.applyOptions({
      layout: {
        background: { color: colors["--panel"] }, textColor: colors["--muted"], fontSize: 11,
        fontFamily: getComputedStyle(holder).fontFamily,
      },
      grid: { vertLines: { color: colors["--grid"] }, horzLines: { color: colors["--grid"] } },
      rightPriceScale: { borderColor: colors["--line"] },
      timeScale: { borderColor: colors["--line"] },
    });
    const [upColor, downColor] = [colors["--up"], colors["--down"]];
    price.applyOptions({ upColor, downColor, wickUpColor: upColor, wickDownColor: downColor });
    volume.setData(shown.map(column));
  }

  view.reset = (candles) => {
    const other = candles.length && (!shown.length || candles[0].symbol !== shown[0].symbol || candles[0].interval !== shown[0].interval);
    shown = candles;
    // The median, since a derived candle may end in the dust of a division.
    const sample = candles.slice(-100).flatMap(({ high, low, close }) => [high, low, close]);
    const written = sample.map(decimalsIn).sort((a, b) => a - b);
    view.decimals = Math.max(2, written[written.length >> 1] ?? 2);
    const { decimals } = view;
    price.applyOptions({
      priceFormat: { type: "custom", minMove: 10 ** -decimals, formatter: (value) => formatPrice(value, decimals) },
    });
    price.setData(candles.map(bar));
    volume.setData(candles.map(column));
    if (!other) return;
    // About 7 px a candle is where bodies read well; the rest is one drag away.
    chart.timeScale().applyOptions({ barSpacing: 7, timeVisible: !/[dwM]$/.test(candles[0].interval) });
    price.priceScale().applyOptions({ autoScale: true });
    chart.timeScale().scrollToRealTime();
  };

  view.update = (candle) => {
    if (shown.at(-1)?.open_time === candle.open_time) shown[shown.length - 1] = candle;
    else shown.push(candle);
    price.update(bar(candle));
    volume.update(column(candle));
  };

  view.onHover = (tell) => chart.subscribeCrosshairMove(({ time }) => tell(time ? time * 1000 : null));
  view.onNearStart = (tell) => chart.timeScale().subscribeVisibleLogicalRangeChange((range) => range?.from < 5 && shown.length && tell());

  addEventListener("themechange", paint);
  paint();
  return view;
}
