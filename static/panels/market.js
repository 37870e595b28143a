/** Shows the top coins. Prices come from the live stream if it has the coin, else from the table's own source. */

import { flash, make, perFrame, place, setAttribute, setData, setText } from "../dom.js";
import { follow } from "../follow.js";
import { formatCount, formatMoney, formatPercent, formatPrice } from "../format.js";
import { mountSorting } from "../sorting.js";

const TOPIC = "market";
const PRICE = "price.";
// Two coins may share a ticker: a stream price this far from the table's price is another coin's.
const SAME_COIN_WITHIN = 2;

const SORT_KEYS = {
  rank: ({ coin }) => coin.rank,
  name: ({ coin }) => coin.symbol,
  price: (row) => row.shown,
  hour: ({ coin }) => coin.change_1h_pct,
  day: ({ coin }) => coin.change_24h_pct,
  week: ({ coin }) => coin.change_7d_pct,
  volume: ({ coin }) => coin.volume_24h,
  cap: ({ coin }) => coin.market_cap,
};

export function mountMarket(client, truth, status, selection) {
  const panel = document.getElementById("market");
  const [scroller, body, more] = [".scroller", "tbody", ".more"].map((part) => panel.querySelector(part));
  const rows = new Map(); // coin → row
  const bySymbol = new Map(); // symbol → the row of its highest ranked coin
  const changed = new Set();
  const byRank = (a, b) => (a.coin.rank ?? Infinity) - (b.coin.rank ?? Infinity);
  const sorting = mountSorting("market", [...panel.querySelectorAll("th[data-sort]")], SORT_KEYS, {
    key: "rank", down: false, upFirst: ["rank", "name"], tieBreak: byRank,
    onChange() {
      arrange();
      scroller.scrollTop = 0;
    },
  });
  let shown = []; // rows, in the order of the source
  let market = null;

  const values = follow(client, truth, status, panel, { selectors: [TOPIC], category: TOPIC, draw: read });

  function read() {
    const value = values.get(TOPIC);
    if (!value || value === market) return;
    market = value;
    const coins = (value.data.coins ?? []).filter((coin) => coin?.symbol);
    shown = coins.map((coin) => {
      const key = coin.id ?? coin.symbol;
      const row = rows.get(key) ?? build(key, coin.symbol);
      row.coin = coin;
      return row;
    });
    bySymbol.clear();
    for (const row of shown.toSorted(byRank)) if (!bySymbol.has(row.coin.symbol)) bySymbol.set(row.coin.symbol, row);
    for (const row of shown) writeRow(row);
    arrange();
  }

  function arrange() {
    place(body, shown.toSorted(sorting.compare).map(({ cells }) => cells.tr));
    setText(more, panel.dataset.all ? "Show fewer" : `Show all ${shown.length}`);
  }

  // --- the live stream

  const write = perFrame(() => {
    changed.forEach(writeRow);
    changed.clear();
  });
  function mark(symbol) {
    const row = bySymbol.get(symbol);
    if (!row) return;
    changed.add(row);
    write();
  }
  truth.onTopic((topic) => topic.startsWith(PRICE) && mark(topic.slice(PRICE.length)));
  truth.onLink(() => shown.forEach(writeRow));

  function livePriceOf(row) {
    const topic = PRICE + row.coin.symbol;
    const { data: { price } = {}, source } = truth.values.get(topic) ?? {};
    if (bySymbol.get(row.coin.symbol) !== row || !Number.isFinite(price) || truth.of(topic).state !== "live") return null;
    const ratio = price / row.coin.price;
    return ratio > SAME_COIN_WITHIN || ratio < 1 / SAME_COIN_WITHIN ? null : { price, source };
  }

  // --- one row

  function writeRow(row) {
    const { cells, coin } = row;
    const streamed = livePriceOf(row);
    const price = streamed?.price ?? coin.price;
    setText(cells.rank, formatCount(coin.rank));
    setText(cells.name, coin.name ?? "");
    setText(cells.price, formatPrice(price));
    setData(cells.price, "value", price);
    setData(cells.price, "live", streamed ? "true" : null);
    cells.price.title = `Source: ${streamed?.source ?? market.source}`;
    for (const [name, span] of [["hour", "1h"], ["day", "24h"], ["week", "7d"]]) {
      const percent = coin[`change_${span}_pct`];
      setText(cells[name], formatPercent(percent));
      setData(cells[name], "sign", Math.sign(percent ?? 0));
    }
    setText(cells.volume, formatMoney(coin.volume_24h, market.data.currency));
    setText(cells.cap, formatMoney(coin.market_cap, market.data.currency));
    setAttribute(cells.tr, "aria-current", coin.symbol === selection.symbol ? "true" : null);
    if (row.shown !== undefined && row.shown !== price) flash(cells.price, price > row.shown);
    row.shown = price;
  }

  function build(key, symbol) {
    const cell = (className) => make("td", { className });
    const name = make("span", { className: "coin-name" });
    const coin = make("th", { scope: "row" }, make("button", { type: "button", text: symbol }), name);
    const parts = ["rank", "price", "hour", "day", "week", "volume", "cap"].map((part) => [part, cell(part)]);
    const [[, rank], ...others] = parts;
    const tr = make("tr", { "data-coin": symbol }, rank, coin, ...others.map(([, td]) => td));
    tr.addEventListener("click", () => selection.set({ symbol }));
    rows.set(key, { cells: { tr, name, ...Object.fromEntries(parts) }, shown: undefined });
    return rows.get(key);
  }

  selection.addEventListener("change", () => shown.forEach(writeRow));
  more.addEventListener("click", () => {
    setData(panel, "all", panel.dataset.all ? null : "true");
    more.setAttribute("aria-expanded", String(Boolean(panel.dataset.all)));
    arrange();
  });
}
