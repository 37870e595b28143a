/** Shows the providers, how well they answer, who is asked next after a failure, and where they disagree. */

import { make, place, setData, setText } from "../dom.js";
import { follow } from "../follow.js";
import { formatAge, formatCount, formatLatency, formatPrice, formatShare, formatWord, UNKNOWN } from "../format.js";

const TOPIC = "status";
const LOW_SUCCESS_PCT = 90;
const COLUMNS = ["state", "success", "calls", "p50", "p95", "ok", "error"];

export function mountProviders(client, truth, status) {
  const panel = document.getElementById("providers");
  const [summary, providers, pools, disagreements] =
    [".summary", ".providers tbody", ".pools tbody", ".disagreements"].map((part) => panel.querySelector(part));
  const rows = new Map(); // provider → { cells, provider }
  const routes = new Map(); // pool → cells

  const values = follow(client, truth, status, panel, { selectors: [TOPIC], category: TOPIC, draw });
  truth.onLink(() => values.size && draw(values));

  function draw(values) {
    const { data = {} } = values.get(TOPIC) ?? {};
    // A server without providers is not broken: it reports none.
    const known = named(data.providers);
    for (const provider of known) writeProvider(provider);
    place(providers, known.map(({ name }) => rows.get(name).cells.tr));
    setText(summary, summaryOf(known));
    setData(panel, "none", known.length ? null : "true");

    const states = new Map(known.map((provider) => [provider.name, stateOf(provider)]));
    // A pool of one has no failover, and its provider is already in the table.
    const all = named(data.pools).filter(({ tiers }) => !Array.isArray(tiers) || tiers.flat().length > 1);
    for (const pool of all) writePool(pool, states);
    place(pools, all.map(({ name }) => routes.get(name).tr));
    writeDisagreements(Array.isArray(data.disagreements) ? data.disagreements : [], data.readiness?.price);
  }

  // --- providers

  function summaryOf(known) {
    if (!known.length) return "none reported";
    const count = (state) => known.filter((provider) => stateOf(provider) === state).length;
    const [active, idle, off] = [count("active"), count("not_asked"), count("disabled")];
    return [`${active} of ${known.length - off} active`, idle && `${idle} not asked`, off && `${off} disabled`].filter(Boolean).join(", ");
  }

  function writeProvider(provider) {
    const row = rows.get(provider.name) ?? build(provider.name);
    row.provider = provider;
    const { cells } = row;
    const state = stateOf(provider);
    const { success_pct, calls, latency_ms, hosts } = provider;
    setData(cells.tr, "state", state);
    setText(cells.word, formatWord(state));
    setText(cells.success, formatShare(success_pct));
    setData(cells.success, "warn", Number.isFinite(success_pct) && success_pct < LOW_SUCCESS_PCT ? "" : null);
    setText(cells.calls, formatCount(calls));
    setText(cells.p50, formatLatency(latency_ms?.p50));
    setText(cells.p95, formatLatency(latency_ms?.p95));
    cells.tr.cells[0].title = Array.isArray(hosts) ? hosts.join(", ") : "";
    writeTimes(row);
  }

  /** Update the parts that change with time. */
  function writeTimes({ cells, provider }) {
    const now = client.serverNow();
    const { open_until, last_success_at, last_error, last_error_at, reason, state } = provider;
    setText(cells.until, open_until > now ? `again in ${formatAge(open_until - now + 999)}` : "");
    setText(cells.ok, Number.isFinite(last_success_at) ? `${formatAge(now - last_success_at)} ago` : UNKNOWN);
    const when = last_error && Number.isFinite(last_error_at) && `${formatAge(now - last_error_at)} ago`;
    // A common cause is named once for the whole page.
    const cause = !status.unreachable && last_error !== reason && last_error;
    const words = [reason, cause, when].filter(Boolean).join(" · ");
    setText(cells.words, words);
    cells.error.title = [words, last_error].filter(Boolean).join("\n");
    // The last error of a recovered provider is not shown.
    setData(cells.error, "warn", last_error && state !== "active" ? "" : null);
  }

  function build(name) {
    const tds = Object.fromEntries(COLUMNS.map((className) => [className, make("td", { className })]));
    const [word, until, words] = [make("span", { className: "word" }), make("span", { className: "until" }), make("span")];
    tds.error.append(words);
    tds.state.append(make("span", { className: "dot", "aria-hidden": "true" }), word, " ", until);
    const tr = make("tr", { "data-provider": name }, make("th", { scope: "row", text: name }), ...Object.values(tds));
    rows.set(name, { cells: { tr, word, until, words, ...tds }, provider: null });
    return rows.get(name);
  }

  setInterval(() => {
    for (const tr of providers.rows) writeTimes(rows.get(tr.dataset.provider));
  }, 1000);

  // --- pools and disagreements

  function writePool({ name, tiers, asked, cache_hits, failovers, last_source }, states) {
    const { route, cells } = routes.get(name) ?? buildPool(name);
    const steps = (Array.isArray(tiers) ? tiers : []).flatMap((tier, index) => [
      ...(index ? [make("span", { className: "then", text: "then" })] : []),
      ...tier.map((provider) => chip(provider, states.get(provider), provider === last_source)),
    ]);
    route.replaceChildren(...steps);
    setText(cells[0], formatCount(asked));
    setText(cells[1], asked ? formatShare((100 * cache_hits) / asked, 0) : UNKNOWN);
    setText(cells[2], formatCount(failovers));
  }

  function chip(name, state, answered) {
    const words = [formatWord(state ?? "unknown"), answered && "gave the last answer"].filter(Boolean).join(", ");
    const dot = make("span", { className: "dot", "aria-hidden": "true" });
    const spoken = make("span", { className: "unseen", text: ` (${words})` });
    const element = make("span", { className: "chip", title: `${name}: ${words}` }, dot, name, spoken);
    setData(element, "state", state ?? "unknown");
    setData(element, "answered", answered ? "true" : null);
    return element;
  }

  function buildPool(name) {
    const route = make("td", { className: "route" });
    const cells = [make("td"), make("td"), make("td")];
    const tr = make("tr", { "data-pool": name }, make("th", { scope: "row", text: formatWord(name) }), route, ...cells);
    routes.set(name, { tr, route, cells });
    return routes.get(name);
  }

  function writeDisagreements(list, priceReadiness) {
    const items = list.map(({ symbol, sources, difference_pct }) => {
      const prices = Object.entries(sources ?? {}).map(([source, price]) => `${source} ${formatPrice(price)}`);
      const apart = make("span", { "data-warn": "", text: `${formatShare(difference_pct)} apart` });
      return make("li", {}, make("b", { text: symbol }), ` ${prices.join(" · ")} `, apart);
    });
    if (!items.length) items.push(make("li", { className: "agree", text: agreement(priceReadiness) }));
    disagreements.replaceChildren(...items);
  }
}

/** Return the state to show for a provider: `active` only if it has been asked. */
const stateOf = ({ state, calls }) => (state === "active" && calls === 0 ? "not_asked" : state ?? "unknown");

/** Return the text for no disagreements; `readiness` is "value" if there are prices to compare. */
function agreement(readiness) {
  return readiness === undefined || readiness === "value" ? "None: sources agree." : "Nothing to compare: there are no prices.";
}

const named = (list) => (Array.isArray(list) ? list.filter((each) => typeof each?.name === "string") : []);
