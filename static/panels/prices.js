/** Shows the live price table. Built for 1500 symbols a second: a message marks a row, a frame writes the changes. */

import { flash, make, perFrame, setAttribute, setData, setText } from "../dom.js";
import { formatAge, formatCompact, formatPercent, formatPrice, settledDecimals } from "../format.js";
import { getJson } from "../rest.js";
import { mountSorting } from "../sorting.js";
import { matchRank } from "../spelling.js";

// On a phone the other panels are below, and should not be far away.
const narrow = matchMedia("(max-width: 59.99rem)");
const shortList = () => (narrow.matches ? 12 : 50);
// Rows drawn beyond the edge of the view, so that scrolling shows no blank.
const SPARE_ROWS = 12;
// Rows that jump every second cannot be read or clicked.
const RESORT_MS = 2_000;

const NOTHING_YET = "No price has arrived yet. The feeds below show why.";

const SORT_KEYS = {
  symbol: ({ symbol }) => symbol,
  price: ({ value }) => value.data.price,
  change: ({ value }) => value.data.change_24h_pct,
  volume: ({ value }) => value.data.quote_volume_24h,
};

export function mountPrices(client, truth, selection) {
  const panel = document.getElementById("prices");
  const [scroller, table, body] = [".scroller", "table", "tbody"].map((part) => panel.querySelector(part));
  const heads = [...panel.querySelectorAll("th[data-sort]")];
  const search = document.getElementById("search");
  const showAll = document.getElementById("show-all");
  const empty = document.getElementById("prices-empty");

  const rows = new Map(); // symbol → row
  const changed = new Set(); // rows to write in the next frame
  let all = false;
  let listed = []; // the matching rows, in order
  let sortQueued = false;
  let linkWas = null;
  let refusal = null; // the server's answer to a failed search
  const names = new Map(); // symbol → names of its coin

  truth.onTopic((topic) => {
    if (topic === "market") return learnNames();
    if (!topic.startsWith("price.")) return;
    const symbol = topic.slice("price.".length);
    const row = rows.get(symbol) ?? addRow(symbol);
    row.value = truth.values.get(topic);
    mark(row);
  });
  truth.onLink(({ name }) => {
    if (name === linkWas) return;
    linkWas = name;
    for (const tr of body.rows) mark(rows.get(tr.dataset.symbol));
  });

  function learnNames() {
    for (const { symbol, id, name } of truth.values.get("market").data.coins ?? []) names.set(symbol, [id, name]);
  }

  function addRow(symbol) {
    const row = { symbol, value: null, decimals: 0, cells: null, shown: undefined };
    rows.set(symbol, row);
    // The first rows of a snapshot should not wait for the next tick of the timer.
    if (!sortQueued) setTimeout(arrange, 100);
    sortQueued = true;
    return row;
  }

  function mark(row) {
    changed.add(row);
    write();
  }

  // --- which rows, in which order

  function arrange() {
    sortQueued = false;
    const found = foundRows();
    listed = all ? found : found.slice(0, shortList());
    place();

    setText(document.getElementById("prices-count"), rows.size ? `${found.length}` : "");
    empty.hidden = found.length > 0;
    const needle = search.value.trim();
    const asked = refusal?.needle === needle ? refusal.words : "Press Enter to ask the server.";
    setText(empty, rows.size ? `No symbol here matches “${needle}”. ${asked}` : NOTHING_YET);
    showAll.hidden = found.length <= shortList();
    setText(showAll, all ? `Show the first ${shortList()}` : `Show all ${found.length}`);
  }

  /** Return the matching rows, best first; without a search, all rows in the chosen order. */
  function foundRows() {
    const needle = search.value.trim();
    if (!needle) return [...rows.values()].sort(sorting.compare);
    const ranks = new Map();
    for (const row of rows.values()) {
      const { symbol, value } = row;
      const rank = matchRank(needle, { symbol, pair: value?.data.pair ?? symbol + (value?.data.quote ?? ""), names: names.get(symbol) });
      if (rank !== null) ranks.set(row, rank);
    }
    return [...ranks.keys()].sort((a, b) => ranks.get(a) - ranks.get(b) || sorting.compare(a, b));
  }

  const byName = (a, b) => (a.symbol < b.symbol ? -1 : 1);

  /** Return the part of the list to draw: all of a short list, the visible part of a long one. */
  function span() {
    if (!all) return { first: 0, end: listed.length, rowHeight: 0 };
    const rowHeight = body.rows[0]?.offsetHeight || 28;
    const view = scroller.getBoundingClientRect();
    // On a phone the page scrolls instead of the list, so the window is an edge too.
    const start = table.getBoundingClientRect().top + table.tHead.offsetHeight - parseFloat(table.style.marginTop || 0);
    const first = Math.floor((Math.max(0, view.top) - start) / rowHeight) - SPARE_ROWS;
    const end = Math.ceil((Math.min(innerHeight, view.bottom) - start) / rowHeight) + SPARE_ROWS;
    const within = (n) => Math.max(0, Math.min(listed.length, n));
    return { first: within(Math.min(first, listed.length - 2 * SPARE_ROWS)), end: within(Math.max(end, 2 * SPARE_ROWS)), rowHeight };
  }

  /** Show these rows in the table, moving as few as possible. */
  function place() {
    const focused = body.contains(document.activeElement) ? document.activeElement : null;
    const { first, end, rowHeight } = span();
    const drawn = listed.slice(first, end);
    const keep = new Set(drawn);
    for (const tr of [...body.rows]) if (!keep.has(rows.get(tr.dataset.symbol))) tr.remove();

    table.style.marginTop = `${first * rowHeight}px`;
    table.style.marginBottom = `${(listed.length - end) * rowHeight}px`;
    table.setAttribute("aria-rowcount", listed.length + 1);
    let next = body.firstElementChild;
    let index = first + 2; // the heads are row 1
    for (const row of drawn) {
      const tr = (row.cells ??= build(row)).tr;
      tr.ariaRowIndex = index++;
      if (!tr.isConnected) {
        // A row outside the table missed its writes.
        changed.add(row);
      } else if (next?.nextElementSibling === tr) {
        // One row moved down: move it rather than all the rows it passes.
        const fallen = next;
        next = tr;
        body.append(fallen);
      }
      if (tr === next) next = next.nextElementSibling;
      else body.insertBefore(tr, next);
    }
    if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
    write();
  }

  function build({ symbol }) {
    const button = make("button", { type: "button", text: symbol });
    const tr = make("tr", { "data-symbol": symbol },
      make("th", { scope: "row" }, button, make("span", { className: "quote-asset" })),
      ...["price", "change", "volume", "age"].map((className) => make("td", { className })));
    const [name, price, change, volume, age] = tr.cells;
    const [ageText, ageState] = [make("span"), make("span", { className: "unseen" })];
    age.append(ageText, ageState);
    return { tr, quote: name.lastChild, price, change, volume, age, ageText, ageState };
  }

  // --- one row

  const write = perFrame(() => {
    for (const row of changed) {
      if (row.cells?.tr.isConnected) writeRow(row);
    }
    changed.clear();
  });

  function writeRow(row) {
    const { cells, value } = row;
    const { data, source } = value;
    const { state, reason } = truth.ofValue(value);
    row.decimals = settledDecimals(row.decimals, data.price);
    setText(cells.quote, data.quote ?? "");
    setText(cells.price, formatPrice(data.price, row.decimals));
    setData(cells.price, "value", data.price ?? null);
    setText(cells.change, formatPercent(data.change_24h_pct));
    setData(cells.change, "sign", Math.sign(data.change_24h_pct ?? 0));
    setText(cells.volume, formatCompact(data.quote_volume_24h));
    setData(cells.tr, "stale", state === "stale" ? "true" : null);
    setData(cells.tr, "state", state);
    cells.age.title = [source && `Source: ${source}`, reason].filter(Boolean).join("\n");
    writeAge(row);
    setAttribute(cells.tr, "aria-current", row.symbol === selection.symbol ? "true" : null);

    const before = row.shown;
    row.shown = data.price;
    if (before === undefined || before === data.price) return;
    flash(cells.price, data.price > before);
  }

  function writeAge({ cells, value }) {
    const { state, ageMs } = truth.ofValue(value);
    setText(cells.ageText, formatAge(ageMs));
    // Screen readers cannot see colour.
    setText(cells.ageState, state === "live" ? "" : ` ${state === "stale" ? "stale" : "not connected"}`);
  }

  // --- input

  function select(tr) {
    if (tr) selection.set({ symbol: tr.dataset.symbol });
  }
  body.addEventListener("click", ({ target }) => select(target.closest("tr")));
  selection.addEventListener("change", () => {
    for (const row of rows.values()) if (row.cells?.tr.isConnected) mark(row);
  });

  const sorting = mountSorting("prices", heads, SORT_KEYS, {
    key: "volume", down: true, upFirst: ["symbol"], tieBreak: byName,
    onChange() {
      arrange();
      scroller.scrollTop = 0;
    },
  });
  search.addEventListener("input", arrange);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") openFound();
    else if (event.key === "ArrowDown") body.querySelector("button")?.focus();
    else return;
    event.preventDefault();
  });
  body.addEventListener("keydown", (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = event.target.closest("tr")[step];
    (next?.querySelector("button") ?? (event.key === "ArrowUp" ? search : event.target)).focus();
  });

  /** Chart the best match; if no row matches, ask the server. */
  async function openFound() {
    const needle = search.value.trim();
    if (!needle) return;
    const [best] = foundRows();
    if (best) return selection.set({ symbol: best.symbol });
    try {
      const { data } = await getJson(`/api/market/price?${new URLSearchParams({ symbols: needle })}`);
      if (search.value.trim() === needle && data[0]) selection.set({ symbol: data[0].symbol });
    } catch (error) {
      refusal = { needle, words: `The server answered: ${error.message}` };
      arrange();
    }
  }
  showAll.addEventListener("click", () => {
    all = !all;
    arrange();
  });
  const follow = perFrame(() => all && place());
  scroller.addEventListener("scroll", follow, { passive: true });
  addEventListener("scroll", follow, { passive: true });
  addEventListener("resize", follow);
  narrow.addEventListener("change", arrange);

  setInterval(arrange, RESORT_MS);
  setInterval(() => {
    for (const tr of body.rows) writeAge(rows.get(tr.dataset.symbol));
  }, 1000);

  client.subscribe(["price.*"]);
}
