/** Wires the page. To add a panel: a section in index.html, a file in panels/ (see follow.js), a line below. */

import { askForToken, ticket } from "./access.js";
import { BASE } from "./base.js";
import { StreamClient, UNAUTHORISED } from "./client.js";
import { Selection } from "./selection.js";
import { Status } from "./status.js";
import { mountChain } from "./panels/chain.js";
import { mountChart } from "./panels/chart.js";
import { mountCoinSentiment } from "./panels/coinsentiment.js";
import { mountConnection } from "./panels/connection.js";
import { mountFearGreed } from "./panels/feargreed.js";
import { mountFeeds } from "./panels/feeds.js";
import { mountGas } from "./panels/gas.js";
import { mountMarket } from "./panels/market.js";
import { mountNews } from "./panels/news.js";
import { mountPrices } from "./panels/prices.js";
import { mountProviders } from "./panels/providers.js";
import { mountTotals } from "./panels/totals.js";

const client = new StreamClient(BASE, { ticket });
const status = new Status(client);
const selection = new Selection();

mountConnection(client);
mountTotals(client, status);
mountPrices(client, selection);
mountChart(client, selection);
mountFearGreed(client, status);
mountGas(client, status);
mountChain(client, status);
mountCoinSentiment(client, status, selection);
mountMarket(client, status, selection);
mountNews(client, status, selection);
mountProviders(client, status);
mountFeeds(status);

document.getElementById("theme").addEventListener("click", () => globalThis.toggleTheme());

// The first row of panels ends where the status bar begins, and that grows with what has to be said in it.
const foot = document.querySelector(".status");
new ResizeObserver(() => {
  document.documentElement.style.setProperty("--status-h", `${foot.offsetHeight}px`);
}).observe(foot);

// A coin may be chosen far below its chart.
let charted = selection.symbol;
selection.addEventListener("change", () => {
  if (charted === selection.symbol) return;
  charted = selection.symbol;
  document.querySelector(".chart-panel").scrollIntoView({ block: "nearest" });
});

client.on("state", ({ name, code }) => {
  if (name === "closed" && code === UNAUTHORISED) askForToken().then(() => client.connect());
});

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
