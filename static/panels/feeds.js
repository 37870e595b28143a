/** Which upstream feeds run, and what is wrong with those that do not. */

import { make, setData, setText } from "../dom.js";
import { getJson } from "../rest.js";

const EVERY_MS = 15_000;
const WELL = new Set(["live", "playing"]);

export function mountFeeds() {
  const list = document.getElementById("feeds");
  const mode = document.getElementById("mode");

  async function refresh() {
    try {
      const { data } = await getJson("/api/status");
      // The shape of status may grow and vary; read what is there.
      const feeds = Array.isArray(data?.feeds) ? data.feeds : [];
      show(feeds.map(read).sort((a, b) => a.well - b.well));
      mode.hidden = data?.server?.mode !== "tape";
      setText(mode, "Tape replay");
    } catch (error) {
      show([{ name: "status", state: "unknown", well: false, error: error.message }]);
    }
    setTimeout(refresh, EVERY_MS);
  }

  function show(feeds) {
    if (!feeds.length) return list.replaceChildren(make("li", { text: "none reported" }));
    list.replaceChildren(...feeds.map(({ name, state, well, error }) => {
      const item = make("li", {}, make("span", { className: "dot", "aria-hidden": "true" }), make("b", { text: name }), ` ${state}`);
      setData(item, "well", well);
      if (error) item.append(make("span", { className: "feed-error", text: error }));
      return item;
    }));
  }

  refresh();
}

function read(feed) {
  const state = String(feed?.state ?? "unknown");
  const well = WELL.has(state.toLowerCase());
  const cause = feed?.last_error?.message ?? feed?.last_error;
  // The last error of a feed that has recovered is history, not news.
  return { name: String(feed?.name ?? "feed"), state, well, error: well || !cause ? null : String(cause) };
}
