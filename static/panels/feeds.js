/** Which upstream feeds run, and what is wrong with those that do not. */

import { make, setData, setText } from "../dom.js";

const WELL = new Set(["live", "playing"]);
const STREAMS = new Set(["live", "playing", "ended", "connecting", "waiting", "starting"]);
// In trouble first, as far as the line goes.
const ORDER = ["false", "true", "idle"];

export function mountFeeds(status) {
  const list = document.getElementById("feeds");
  const mode = document.getElementById("mode");

  status.addEventListener("change", () => {
    const { feeds, server } = status.report;
    // The shape of status may grow and vary; read what is there.
    show((Array.isArray(feeds) ? feeds : []).map(read).sort((a, b) => ORDER.indexOf(a.well) - ORDER.indexOf(b.well)));
    mode.hidden = server?.mode !== "tape";
    setText(mode, "Tape replay");
  });

  function show(feeds) {
    if (!feeds.length) return list.replaceChildren(make("li", { text: "none reported" }));
    // Of the many that poll, those that do well are a number; the streams and whoever is in trouble have names.
    const fine = feeds.filter(({ state, well }) => well !== "false" && !STREAMS.has(state));
    const told = feeds.filter((feed) => !fine.includes(feed));
    list.replaceChildren(...told.map(({ name, state, well, error }) => {
      const item = make("li", {}, make("span", { className: "dot", "aria-hidden": "true" }), make("b", { text: name }), ` ${state}`);
      setData(item, "well", well);
      if (error) item.append(make("span", { className: "feed-error", text: error, title: error }));
      return item;
    }));
    if (fine.length) {
      const names = fine.map(({ name, state }) => `${name} ${state}`).join("\n");
      const item = make("li", { title: names }, make("span", { className: "dot", "aria-hidden": "true" }), `${fine.length} polled`);
      setData(item, "well", "true");
      list.append(item);
    }
  }
}

function read(feed) {
  const state = String(feed?.state ?? "unknown");
  const cause = feed?.last_error?.message ?? feed?.last_error;
  // To poll is the way of some feeds, and of others what is left to them: then they say of what.
  const live = WELL.has(state) || (state === "polling" && !cause);
  const well = live ? "true" : cause ? "false" : "idle";
  // The last error of a feed that has recovered is history, not news.
  return { name: String(feed?.name ?? "feed"), state, well, error: well === "false" ? String(cause) : null };
}
