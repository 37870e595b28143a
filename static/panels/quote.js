/** Shows the price of the selected symbol in headline, tab title and tab icon, with its source and whether it holds. */

import { perFrame, setData, setText } from "../dom.js";
import { formatAge, formatCompact, formatPercent, formatPrice, settledDecimals } from "../format.js";

const NAME = "stream-server";
// Smaller ages change too often to be read.
const OLD_MS = 10_000;
const ICONS = { live: new URL("../favicon.svg", import.meta.url), other: new URL("../favicon-stale.svg", import.meta.url) };

export function mountQuote(truth, selection) {
  const byId = (id) => document.getElementById(id);
  const [holder, title, price, change, origin, age, facts] =
    ["quote", "chart-title", "quote-price", "quote-change", "quote-source", "quote-age", "quote-facts"].map(byId);
  const icon = document.querySelector("link[rel=icon]");
  const usual = new Map(); // symbol → { source, quote } of an exchange
  const decimals = new Map(); // symbol → decimals of its shown price

  /** Return the newest value of a symbol, from the stream or else from the table of coins. */
  function valueOf(symbol) {
    const streamed = truth.values.get(`price.${symbol}`);
    if (streamed) return streamed;
    const table = truth.values.get("market");
    const coin = table?.data.coins?.find((each) => each?.symbol === symbol);
    if (!coin) return null;
    return { ...table, data: { ...coin, volume_24h: null, quote: (table.data.currency ?? "usd").toUpperCase() }, ts: coin.ts ?? table.ts, polled: true };
  }

  function originOf(symbol, { data, source, polled }) {
    if (data.pair) usual.set(symbol, { source, quote: data.quote });
    if (polled) return { words: `${source}, from the table of coins`, changed: false };
    const before = usual.get(symbol);
    const changed = !data.pair || before?.source !== source || before?.quote !== data.quote;
    if (!changed) return { words: source, changed };
    return { words: before ? `${source} in ${data.quote}, instead of ${before.source} in ${before.quote}` : `${source} in ${data.quote}`, changed };
  }

  function show() {
    const { symbol } = selection;
    const value = valueOf(symbol);
    const mark = truth.ofValue(value);
    const { data = {} } = value ?? {};
    const { words, changed } = value ? originOf(symbol, value) : { words: "", changed: false };
    const warning = truth.warningOf(mark);
    if (value) decimals.set(symbol, settledDecimals(decimals.get(symbol), data.price));
    const text = formatPrice(data.price, decimals.get(symbol));

    setData(holder, "state", mark.state);
    setText(title, data.quote ? `${symbol}/${data.quote}` : symbol);
    setText(price, text);
    setText(change, formatPercent(data.change_24h_pct));
    setData(change, "sign", Math.sign(data.change_24h_pct ?? 0));
    setText(origin, words);
    setData(origin, "warn", changed ? "" : null);
    setText(age, warning || (mark.ageMs > OLD_MS ? `${formatAge(mark.ageMs)} ago` : ""));
    setData(age, "warn", warning ? "" : null);
    age.title = mark.reason;
    const shown = { high: formatPrice(data.high_24h), low: formatPrice(data.low_24h), volume: formatCompact(data.volume_24h) };
    for (const [name, fact] of Object.entries(shown)) setText(facts.querySelector(`[data-fact=${name}]`), fact);
    showTab(value ? `${text} ${symbol}` : symbol, mark, warning);
  }

  function showTab(what, { state }, warning) {
    const apart = warning || (truth.link.name === "live" ? "" : truth.link.words.toLowerCase());
    const full = apart ? `${apart} · ${what}` : `${what} · ${NAME}`;
    if (document.title !== full) document.title = full;
    const { href } = state === "live" ? ICONS.live : ICONS.other;
    if (icon.href !== href) icon.href = href;
  }

  const draw = perFrame(show);
  // Title and icon stay visible while the tab is hidden, when no frames are drawn.
  const showNow = () => (document.hidden ? show() : draw());
  truth.onTopic((topic) => (topic === `price.${selection.symbol}` || topic === "market") && showNow());
  truth.onLink(showNow);
  selection.addEventListener("change", show);
  setInterval(show, 1_000);
  show();
}
