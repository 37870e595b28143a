/** Wires the page. To add a panel: a section in index.html, a file in panels/, a line below. */

import { StreamClient } from "./client.js";
import { Selection } from "./selection.js";
import { mountChart } from "./panels/chart.js";
import { mountConnection } from "./panels/connection.js";
import { mountFeeds } from "./panels/feeds.js";
import { mountPrices } from "./panels/prices.js";

const client = new StreamClient(location.origin);
const selection = new Selection();

mountConnection(client);
mountPrices(client, selection);
mountChart(client, selection);
mountFeeds();

document.getElementById("theme").addEventListener("click", () => globalThis.toggleTheme());

// The first row of panels ends where the status bar begins, and that grows with what has to be said in it.
const status = document.querySelector(".status");
new ResizeObserver(() => {
  document.documentElement.style.setProperty("--status-h", `${status.offsetHeight}px`);
}).observe(status);

addEventListener("online", () => client.state.name === "reconnecting" && client.connect());

// Without a link the chart is Bitcoin's, unless there is none here, as on a tape of other markets.
if (!location.hash) {
  const symbols = new Set();
  const stop = client.on("update", ({ topic }) => {
    if (!topic.startsWith("price.")) return;
    if (!symbols.size) setTimeout(() => {
      stop();
      if (!location.hash && !symbols.has(selection.symbol)) selection.set({ symbol: [...symbols][0] }, { replace: true });
    }, 1000);
    symbols.add(topic.slice("price.".length));
  });
}

client.connect();
