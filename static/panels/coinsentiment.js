/** Shows the news sentiment of each coin, most articles first. */

import { make, place, setData, setText } from "../dom.js";
import { follow } from "../follow.js";
import { formatCount, formatSigned } from "../format.js";

const PREFIX = "sentiment.";
const SHOWN = 30;

export function mountCoinSentiment(client, truth, status, selection) {
  const panel = document.getElementById("coinsentiment");
  const body = panel.querySelector("tbody");
  const rows = new Map(); // topic → cells

  follow(client, truth, status, panel, {
    selectors: [`${PREFIX}*`], except: [`${PREFIX}global`], category: "news", draw, // it is computed from news
  });

  function draw(values) {
    const all = [...values].sort(([a, x], [b, y]) => (y.data.articles ?? 0) - (x.data.articles ?? 0) || (a < b ? -1 : 1));
    const shown = all.slice(0, SHOWN);
    for (const [topic, { data, stale }] of shown) {
      const { tr, bar, score, count } = rows.get(topic) ?? build(topic);
      const { positive, neutral, negative, articles, window_s, model } = data;
      const known = Number.isFinite(data.score);
      setText(score, formatSigned(data.score));
      setData(score, "sign", known ? Math.sign(Math.round(data.score * 100)) : 0);
      setText(count, formatCount(articles));
      setData(tr, "stale", stale ? "true" : null);
      bar.style.width = `${known ? Math.min(50, 50 * Math.abs(data.score)) : 0}%`;
      setData(bar, "sign", known ? Math.sign(data.score) : 0);
      const split = `${formatCount(positive)} positive, ${formatCount(neutral)} neutral, ${formatCount(negative)} negative`;
      tr.title = `${split} in ${Math.round(window_s / 3600)} h, scored by ${model}`;
    }
    place(body, shown.map(([topic]) => rows.get(topic).tr));
  }

  function build(topic) {
    const symbol = topic.slice(PREFIX.length);
    const bar = make("span");
    const [score, count] = [make("td", { className: "score" }), make("td", { className: "count" })];
    const tr = make("tr", { "data-sentiment": symbol },
      make("th", { scope: "row" }, make("button", { type: "button", text: symbol })),
      make("td", { className: "balance" }, make("span", { "aria-hidden": "true" }, bar)), score, count);
    tr.addEventListener("click", () => selection.set({ symbol }));
    rows.set(topic, { tr, bar, score, count });
    return rows.get(topic);
  }
}
