/** Shows news, newest first, with the sentiment score of each headline. */

import { make, place, setData, setText } from "../dom.js";
import { follow } from "../follow.js";
import { formatAge, formatSigned, formatTime } from "../format.js";
import { getJson } from "../rest.js";

const TOPIC = "news";
const KEPT = 100;
const EARLIER = 30;
const RETRY_MS = 60_000;

export function mountNews(client, truth, status, selection) {
  const panel = document.getElementById("news");
  const [scroller, list, note, more, waiting] =
    [".scroller", "ul", ".note", ".more", ".waiting"].map((part) => panel.querySelector(part));
  const articles = new Map(); // id → { article, source, item }
  let listed = new Set(); // ids in the list; new articles wait while somebody reads it
  let newest = null; // the newest event: { received, stale }
  let asked = false;

  const values = follow(client, truth, status, panel, { selectors: [TOPIC], category: TOPIC, draw, facts });

  client.on("update", ({ topic, data, source }, live) => {
    if (topic !== TOPIC) return;
    keep(data, source, live);
    // Asked only once there is an article: without one the server has no list either.
    if (!asked) load();
  });
  client.on("gap", ({ topic }) => topic === TOPIC && load());

  async function load() {
    asked = true;
    try {
      const { data } = await getJson(`/api/news?limit=${EARLIER}`);
      for (const article of Array.isArray(data) ? data : []) keep(article, article.source);
      setText(note, "");
    } catch (error) {
      setText(note, `Earlier articles are missing: ${error.message}`);
      if (error.status !== 404) setTimeout(load, RETRY_MS);
    }
    draw();
  }

  function keep(article, source, live = false) {
    if (!article?.id || !article.title) return;
    const known = articles.get(article.id);
    const isNew = live && !known;
    articles.set(article.id, { article, source: source ?? known?.source, item: known?.item, isNew, drawn: false });
  }

  // --- the list

  /** Return whether the list must not move, because it is hovered, focused or scrolled. */
  const reading = () => scroller.scrollTop > 0 || list.matches(":hover") || list.contains(document.activeElement);

  function draw() {
    newest = values.get(TOPIC) ?? newest;
    const sorted = [...articles.values()].sort((a, b) => (b.article.published_at ?? 0) - (a.article.published_at ?? 0));
    for (const { article } of sorted.splice(KEPT)) articles.delete(article.id);
    const held = listed.size > 0 && reading();
    const shown = held ? sorted.filter(({ article }) => listed.has(article.id)) : sorted;
    const fresh = sorted.length - shown.length;
    showWaiting(fresh);
    for (const entry of shown) write(entry);
    place(list, shown.map(({ item }) => item));
    listed = new Set(shown.map(({ article }) => article.id));
    setText(more, panel.dataset.all ? "Show fewer" : `Show all ${shown.length}`);
    if (newest) setData(list, "stale", newest.stale ? "true" : null);
  }

  function showWaiting(count) {
    if (!count) return waiting.replaceChildren();
    const words = `${count} new ${count === 1 ? "article" : "articles"}`;
    if (waiting.textContent === words) return;
    const button = make("button", { type: "button", text: words });
    button.addEventListener("click", () => {
      listed = new Set();
      scroller.scrollTop = 0;
      draw();
    });
    waiting.replaceChildren(button);
  }

  for (const event of ["pointerleave", "focusout", "scrollend"]) {
    // A focus that moves within the list has not arrived at its target yet.
    scroller.addEventListener(event, () => waiting.firstChild && setTimeout(draw), { passive: true });
  }

  // --- one article

  function write(entry) {
    if (entry.drawn) return;
    const { article } = entry;
    const title = headline(article);
    const facts = [make("span", { className: "outlet", text: String(article.outlet ?? "") }), timeOf(article)];
    if (article.kind === "social") facts.unshift(make("span", { className: "kind", text: "social" }));
    const item = entry.item ?? make("li");
    item.replaceChildren(title, make("p", { className: "meta" }, ...facts, ...symbolsOf(article), ...badgeOf(article)));
    setData(item, "article", article.id);
    if (entry.isNew) setData(item, "new", "true");
    Object.assign(entry, { item, drawn: true });
  }

  function symbolsOf({ symbols }) {
    return (Array.isArray(symbols) ? symbols : []).slice(0, 5).map((symbol) => {
      const button = make("button", { type: "button", className: "symbol", text: symbol, title: `Chart ${symbol}` });
      button.addEventListener("click", () => selection.set({ symbol }));
      return button;
    });
  }

  function timeOf({ published_at, published_estimated }) {
    if (!Number.isFinite(published_at)) return make("span", { text: "time unknown" });
    const timeKind = published_estimated ? "received (the source gives no time)" : "published";
    const time = make("time", { datetime: new Date(published_at).toISOString(), title: `${timeKind} ${formatTime(published_at)}` });
    setData(time, "estimated", published_estimated ? "true" : null);
    showAge(time);
    return time;
  }

  function showAge(time) {
    const about = time.dataset.estimated ? "~" : "";
    setText(time, `${about}${formatAge(client.serverNow() - Date.parse(time.dateTime))} ago`);
  }

  function facts() {
    const sources = [...articles.values()].map(({ source }) => source?.split(":")[0]).filter(Boolean);
    return { sources: [...new Set(sources)].sort(), ts: newest?.received, stale: newest?.stale ?? null };
  }

  more.addEventListener("click", () => {
    setData(panel, "all", panel.dataset.all ? null : "true");
    more.setAttribute("aria-expanded", String(Boolean(panel.dataset.all)));
    draw();
  });
  setInterval(() => list.querySelectorAll("time").forEach(showAge), 10_000);
}

/** Return the title, as a link if its address is safe to open. */
function headline({ title, url, summary }) {
  let safe = null;
  try {
    const { protocol, href } = new URL(url);
    if (protocol === "https:" || protocol === "http:") safe = href;
  } catch {
    // The address is missing or unreadable: show the headline alone.
  }
  const text = String(title);
  const words = { className: "headline", text, dir: "auto", title: typeof summary === "string" ? summary : text };
  if (!safe) return make("span", words);
  return make("a", { ...words, href: safe, target: "_blank", rel: "noopener noreferrer nofollow" });
}

function badgeOf({ sentiment }) {
  if (!sentiment?.label) return [];
  const { label, score, model } = sentiment;
  const title = `Scored by ${model ?? "an unnamed model"}, from −1 to +1`;
  const badge = make("span", { className: "badge", text: `${label} ${formatSigned(score)}`, title });
  setData(badge, "mood", label);
  return [badge];
}
