/** Wires the page. To add a panel: a section in index.html, a file in panels/ (see follow.js), a line below. */

import { askForToken, ticket } from "./access.js";
import { BASE } from "./base.js";
import { StreamClient, UNAUTHORISED } from "./client.js";
import { Selection } from "./selection.js";
import { mountNotice } from "./notice.js";
import { Status } from "./status.js";
import { Truth } from "./truth.js";
import { mountChain } from "./panels/chain.js";
import { mountChart } from "./panels/chart.js";
import { mountCoinSentiment } from "./panels/coinsentiment.js";
import { mountConnection, rememberedTransport } from "./panels/connection.js";
import { mountFearGreed } from "./panels/feargreed.js";
import { mountFeeds } from "./panels/feeds.js";
import { mountGas } from "./panels/gas.js";
import { mountIntervals } from "./panels/intervals.js";
import { mountMarket } from "./panels/market.js";
import { mountNews } from "./panels/news.js";
import { mountPrices } from "./panels/prices.js";
import { mountProviders } from "./panels/providers.js";
import { mountQuote } from "./panels/quote.js";
import { mountTotals } from "./panels/totals.js";
import { mountTrouble } from "./panels/trouble.js";

const client = new StreamClient(BASE, { ticket, transport: rememberedTransport() });
const truth = new Truth(client); // first, so that all others see current values
const status = new Status(client);
const selection = new Selection();
const notice = mountNotice();

mountConnection(client, truth, notice);
mountTrouble(truth, status);
mountTotals(client, truth, status);
mountPrices(client, truth, selection);
mountQuote(truth, selection);
mountIntervals(selection);
mountChart(client, truth, selection, notice);
mountFearGreed(client, truth, status);
mountGas(client, truth, status);
mountChain(client, truth, status);
mountCoinSentiment(client, truth, status, selection);
mountMarket(client, truth, status, selection);
mountNews(client, truth, status, selection);
mountProviders(client, truth, status);
mountFeeds(truth, status);

// The hash belongs to the chart, so the skip link must not change it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("panels").focus();
});

document.getElementById("theme").addEventListener("click", () => globalThis.toggleTheme());

// The first row of panels ends where the status bar begins, and that bar grows with its text.
const foot = document.querySelector(".status");
new ResizeObserver(() => {
  document.documentElement.style.setProperty("--status-h", `${foot.offsetHeight}px`);
}).observe(foot);

// The chosen coin may be far below the chart.
let charted = selection.symbol;
selection.addEventListener("change", () => {
  if (charted === selection.symbol) return;
  charted = selection.symbol;
  document.querySelector(".chart-panel").scrollIntoView({ block: "nearest" });
});

client.on("state", ({ name, code }) => {
  if (name === "closed" && code === UNAUTHORISED) askForToken().then((given) => given && client.connect());
});

// Without a link the chart shows Bitcoin, unless it is missing, as on a tape of other markets.
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
