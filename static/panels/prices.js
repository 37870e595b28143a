/** The live price table. Built for 1500 symbols a second: a message marks a row, a frame writes what changed. */

import { flash, make, perFrame, setData, setText } from "../dom.js";
import { formatAge, formatCompact, formatPercent, formatPrice } from "../format.js";
import { mountSorting } from "../sorting.js";

// On a phone the other panels stand below, and should not be a long way off.
const narrow = matchMedia("(max-width: 59.99rem)");
const shortList = () => (narrow.matches ? 12 : 50);
// Rows drawn beyond the edge of the view, so that scrolling meets no blank.
const SPARE_ROWS = 12;
// Rows that jump every second cannot be read or clicked.
const RESORT_MS = 2_000;

const NOTHING_YET = "No price has arrived yet. The feeds below say why.";

const SORT_KEYS = {
  symbol: ({ symbol }) => symbol,
  price: ({ data }) => data.price,
  change: ({ data }) => data.change_24h_pct,
  volume: ({ data }) => data.quote_volume_24h,
};

export function mountPrices(client, selection) {
  const panel = document.getElementById("prices");
  const [scroller, table, body] = [".scroller", "table", "tbody"].map((part) => panel.querySelector(part));
  const heads = [...panel.querySelectorAll("th[data-sort]")];
  const search = document.getElementById("search");
  const showAll = document.getElementById("show-all");
  const empty = document.getElementById("prices-empty");

  const rows = new Map(); // symbol → row
  const changed = new Set(); // rows to write in the next frame
  let all = false;
  let listed = []; // the rows found, in order
  let sortQueued = false;

  client.on("update", (message) => {
    if (!message.topic.startsWith("price.")) return;
    const symbol = message.topic.slice("price.".length);
    const row = rows.get(symbol) ?? addRow(symbol);
    Object.assign(row, { data: message.data, ts: message.ts, source: message.source, stale: null });
    mark(row);
  });
  client.on("stale", ({ topic, age_ms, reason }) => {
    const row = topic.startsWith("price.") && rows.get(topic.slice("price.".length));
    if (!row) return;
    row.stale = { since: performance.now() - age_ms, reason };
    mark(row);
  });
  client.on("fresh", ({ topic }) => {
    const row = topic.startsWith("price.") && rows.get(topic.slice("price.".length));
    if (!row) return;
    row.stale = null;
    mark(row);
  });

  function addRow(symbol) {
    const row = { symbol, data: {}, ts: null, source: null, stale: null, cells: null, shown: undefined };
    rows.set(symbol, row);
    // The first rows of a snapshot should not wait for the next turn of the clock.
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
    const needle = search.value.trim().toUpperCase();
    const found = [...rows.values()].filter(({ symbol, data }) => symbol.includes(needle) || data.pair?.includes(needle));
    found.sort(sorting.compare);
    listed = all ? found : found.slice(0, shortList());
    place();

    setText(document.getElementById("prices-count"), rows.size ? `${found.length}` : "");
    empty.hidden = found.length > 0;
    setText(empty, rows.size ? `No symbol contains “${search.value.trim()}”.` : NOTHING_YET);
    showAll.hidden = found.length <= shortList();
    setText(showAll, all ? `Show the first ${shortList()}` : `Show all ${found.length}`);
  }

  const byName = (a, b) => (a.symbol < b.symbol ? -1 : 1);

  /** The part of the list to draw: all of a short one, what is in sight of a long one. */
  function span() {
    if (!all) return { first: 0, end: listed.length, rowHeight: 0 };
    const rowHeight = body.rows[0]?.offsetHeight || 28;
    const view = scroller.getBoundingClientRect();
    // On a phone the page scrolls and not the list, so the window is an edge too.
    const start = table.getBoundingClientRect().top + table.tHead.offsetHeight - parseFloat(table.style.marginTop || 0);
    const first = Math.floor((Math.max(0, view.top) - start) / rowHeight) - SPARE_ROWS;
    const end = Math.ceil((Math.min(innerHeight, view.bottom) - start) / rowHeight) + SPARE_ROWS;
    const within = (n) => Math.max(0, Math.min(listed.length, n));
    return { first: within(Math.min(first, listed.length - 2 * SPARE_ROWS)), end: within(Math.max(end, 2 * SPARE_ROWS)), rowHeight };
  }

  /** Make the table show these rows, moving as few as possible. */
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
        // A row that was out of the table missed its writes.
        changed.add(row);
      } else if (next?.nextElementSibling === tr) {
        // One row fell: move it (its place comes later) rather than all those that it passes.
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
    return { tr, quote: name.lastChild, price, change, volume, age };
  }

  // --- what each row says

  const write = perFrame(() => {
    for (const row of changed) {
      if (row.cells?.tr.isConnected) writeRow(row);
    }
    changed.clear();
  });

  function writeRow(row) {
    const { cells, data, stale } = row;
    setText(cells.quote, data.quote ?? "");
    setText(cells.price, formatPrice(data.price));
    setData(cells.price, "value", data.price ?? null);
    setText(cells.change, formatPercent(data.change_24h_pct));
    setData(cells.change, "sign", Math.sign(data.change_24h_pct ?? 0));
    setText(cells.volume, formatCompact(data.quote_volume_24h));
    setData(cells.tr, "stale", stale ? "true" : null);
    cells.age.title = [row.source && `Source: ${row.source}`, stale && `Stale: ${stale.reason}`].filter(Boolean).join("\n");
    writeAge(row);
    if (row.symbol === selection.symbol) cells.tr.setAttribute("aria-current", "true");
    else cells.tr.removeAttribute("aria-current");

    const before = row.shown;
    row.shown = data.price;
    if (before === undefined || before === data.price) return;
    flash(cells.price, data.price > before);
  }

  function writeAge({ cells, ts, stale }) {
    const ageMs = stale ? performance.now() - stale.since : client.serverNow() - ts;
    setText(cells.age, ts === null && !stale ? "" : formatAge(ageMs));
  }

  // --- the hands of the user

  function select(tr) {
    if (tr) selection.set({ symbol: tr.dataset.symbol });
  }
  body.addEventListener("click", ({ target }) => select(target.closest("tr")));
  selection.addEventListener("change", () => {
    for (const row of rows.values()) if (row.cells?.tr.isConnected) mark(row);
  });

  const sorting = mountSorting(heads, SORT_KEYS, {
    key: "volume", down: true, upFirst: ["symbol"], tieBreak: byName,
    onChange() {
      arrange();
      scroller.scrollTop = 0;
    },
  });
  search.addEventListener("input", arrange);
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
