/** Shows the Fear & Greed index as a gauge, and its last month as a line. */

import { makeSvg, setText } from "../dom.js";
import { follow } from "../follow.js";
import { formatAge, formatCount, UNKNOWN } from "../format.js";
import { getJson } from "../rest.js";

const TOPIC = "sentiment.global";
const DAYS = 31; // today and 30 before
const DAY_MS = 86_400_000;

export function mountFearGreed(client, truth, status) {
  const panel = document.getElementById("feargreed");
  const note = panel.querySelector(".note");
  const gauge = mountGauge(panel.querySelector(".gauge"));
  const sparkline = panel.querySelector(".sparkline");
  let past = []; // newest first
  let askedAt = null; // timestamp of the index for which the history was asked

  follow(client, truth, status, panel, { selectors: [TOPIC], category: TOPIC, draw });

  function draw(values) {
    const newest = values.get(TOPIC);
    if (!newest) return;
    const { data, received } = newest;
    gauge.show(data.value, data.classification);
    const untilMs = received + data.next_update_s * 1000 - client.serverNow();
    const next = data.next_update_s && untilMs > 0 ? `Next in ${formatAge(untilMs)}` : "";
    setText(note, next);
    if (data.timestamp === askedAt) return;
    askedAt = data.timestamp;
    load();
  }

  // Asked only if there is a value: without one the server has no history either.
  async function load() {
    try {
      const { data } = await getJson(`/api/sentiment/global?limit=${DAYS}`);
      past = (data?.history ?? []).filter(({ value, timestamp }) => Number.isFinite(value) && Number.isFinite(timestamp));
      past.sort((a, b) => b.timestamp - a.timestamp);
    } catch (error) {
      setText(note, `History is missing: ${error.message}`);
    }
    showHistory();
  }

  function showHistory() {
    const today = past[0]?.timestamp;
    for (const fact of panel.querySelectorAll("[data-fact]")) {
      const then = today - Number(fact.dataset.fact) * DAY_MS;
      // A day that the source left out is not interpolated.
      const day = past.find(({ timestamp }) => Math.abs(timestamp - then) < DAY_MS / 2);
      setText(fact, day ? formatCount(day.value) : UNKNOWN);
    }
    sparkline.replaceChildren(...(past.length > 1 ? [lineOf(past)] : []));
  }
}

function lineOf(past) {
  const days = past.toReversed();
  const [first, last] = [days[0], days.at(-1)];
  const x = ({ timestamp }) => (100 * (timestamp - first.timestamp)) / (last.timestamp - first.timestamp || 1);
  const y = ({ value }) => 100 - value;
  const points = days.map((day) => `${x(day).toFixed(2)},${y(day)}`);
  const values = days.map(({ value }) => value);
  const [lowest, highest] = [Math.min(...values), Math.max(...values)];
  const label = `The last ${days.length} days: from ${first.value} to ${last.value}, lowest ${lowest}, highest ${highest}`;
  return makeSvg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": label },
    makeSvg("line", { class: "middle", x1: 0, x2: 100, y1: 50, y2: 50 }),
    makeSvg("polygon", { class: "under", points: `0,100 ${points.join(" ")} 100,100` }),
    makeSvg("polyline", { class: "line", points: points.join(" ") }));
}

/** Make a half circle from 0 to 100 with a mark on it. */
function mountGauge(holder) {
  const arc = "M 10 60 A 50 50 0 0 1 110 60";
  const mark = makeSvg("circle", { class: "mark", cx: 10, cy: 60, r: 5 });
  const number = makeSvg("text", { class: "number", x: 60, y: 52 });
  const word = makeSvg("text", { class: "word", x: 60, y: 67 });
  const scale = makeSvg("linearGradient", { id: "fear-to-greed" },
    makeSvg("stop", { offset: "0", class: "fear" }), makeSvg("stop", { offset: "0.5", class: "neutral" }),
    makeSvg("stop", { offset: "1", class: "greed" }));
  const view = makeSvg("svg", { viewBox: "0 0 120 72", role: "img" },
    makeSvg("defs", {}, scale), makeSvg("path", { class: "scale", d: arc }), mark, number, word);
  holder.append(view);

  function show(value, classification) {
    const known = Number.isFinite(value);
    const name = String(classification ?? "");
    setText(number, known ? formatCount(value) : UNKNOWN);
    setText(word, name);
    mark.style.visibility = known ? "" : "hidden";
    mark.style.rotate = `${1.8 * Math.min(100, Math.max(0, value))}deg`;
    view.setAttribute("aria-label", `${known ? value : "unknown"} of 100, ${name}`);
  }
  return { show };
}
