/** Shows which upstream feeds run, and what is wrong with the others. */

import { make, setData, setText } from "../dom.js";

const WELL = new Set(["live", "playing"]);
const STREAMS = new Set(["live", "playing", "ended", "connecting", "waiting", "starting"]);
// Feeds in trouble come first.
const ORDER = ["false", "true", "idle"];

// More feeds in trouble than this are shown as a number.
const NAMED = 2;

export function mountFeeds(truth, status) {
  const list = document.getElementById("feeds");
  const mode = document.getElementById("mode");

  function show() {
    if (!status.report) return;
    const { feeds, server } = status.report;
    mode.hidden = server?.mode !== "tape";
    setText(mode, "Tape replay");
    // The shape of `status` may grow, so missing parts are tolerated.
    const all = (Array.isArray(feeds) ? feeds : []).map(read).sort((a, b) => ORDER.indexOf(a.well) - ORDER.indexOf(b.well));
    // After the connection is lost, the last status is outdated.
    if (truth.link.name !== "live") return showLast(all);
    if (!all.length) return list.replaceChildren(make("li", { text: "none reported" }));
    const polled = all.filter(({ streams }) => !streams);
    const fine = polled.filter(({ well }) => well !== "false");
    const failing = polled.filter(({ well }) => well === "false");
    const gathered = new Set([...fine, ...(failing.length > NAMED ? failing : [])]);
    list.replaceChildren(
      ...all.filter((feed) => !gathered.has(feed)).map(itemOf),
      ...(failing.length > NAMED ? [countOf(failing, "failing", "false")] : []),
      ...(fine.length ? [countOf(fine, "polled", "true")] : []));
  }

  function showLast(all) {
    const { state, ageMs } = truth.of("status");
    const item = countOf(all, `not known: ${truth.warningOf({ state, ageMs })}`, "idle");
    list.replaceChildren(item);
  }

  status.addEventListener("change", show);
  truth.onLink(show);
}

function itemOf({ name, state, well, error }) {
  const item = make("li", {}, make("span", { className: "dot", "aria-hidden": "true" }), make("b", { text: name }), ` ${state}`);
  setData(item, "well", well);
  if (error) item.append(make("span", { className: "feed-error", text: error, title: error }));
  return item;
}

function countOf(feeds, word, well) {
  const title = feeds.map(({ name, state, error }) => [name, state, error].filter(Boolean).join(" ")).join("\n");
  const item = make("li", { title }, make("span", { className: "dot", "aria-hidden": "true" }), `${feeds.length} ${word}`);
  setData(item, "well", well);
  return item;
}

function read(feed) {
  const state = String(feed?.state ?? "unknown");
  const cause = feed?.last_error?.message ?? feed?.last_error;
  // Some feeds always poll; others poll only as a fallback, and then give the cause.
  const live = WELL.has(state) || (state === "polling" && !cause);
  const well = live ? "true" : cause ? "false" : "idle";
  // The last error of a feed that has recovered is not shown.
  const streams = STREAMS.has(state) || Array.isArray(feed?.sockets);
  return { name: String(feed?.name ?? "feed"), state, well, streams, error: well === "false" ? String(cause) : null };
}
