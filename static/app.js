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

client.connect();
