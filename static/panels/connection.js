/** How the connection is: state, transport, pace, position, and what the server has to say about it. */

import { parseId } from "../client.js";
import { setData, setText } from "../dom.js";
import { formatAge, UNKNOWN } from "../format.js";

const TITLES = { connecting: "Connecting", live: "Connected", reconnecting: "Reconnecting", closed: "Closed" };
const RATE_WINDOW_S = 5;
const PASSING_MS = 12_000;

export function mountConnection(client) {
  const byId = (id) => document.getElementById(id);
  const [pill, detail, reconnect, transport] = ["connection", "connection-detail", "reconnect", "transport"].map(byId);
  const notice = mountNotice(byId("notice"));
  const perSecond = new Array(RATE_WINDOW_S).fill(0);
  const stale = new Set();
  const sources = new Map(); // source → when last heard, this page's clock
  let latest = null; // newest `ts` of a live update

  transport.value = client.transport;
  transport.addEventListener("change", () => client.use(transport.value));
  reconnect.addEventListener("click", () => client.connect());

  client.on("state", (state) => {
    setData(pill, "state", state.name);
    setData(pill, "transport", client.transport);
    setData(document.documentElement, "connection", state.name);
    setText(byId("connection-state"), TITLES[state.name]);
    showDetail();
    if (state.name === "live") notice.clear("connection");
  });

  // Not part of the live region: a countdown read aloud each second helps nobody.
  function showDetail() {
    const { name, code, reason, retryAt } = client.state;
    const waitS = retryAt && Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
    const why = [code, reason].filter(Boolean).join(" ");
    const parts = [retryAt && `in ${waitS} s`, name !== "live" && why].filter(Boolean);
    setText(detail, parts.join(" · "));
    detail.title = why;
    reconnect.hidden = name !== "closed" && !(retryAt && waitS > 1);
  }

  client.on("message", (message) => {
    perSecond[0] += 1;
    if (message.type === "hello") setText(byId("epoch"), message.epoch ?? UNKNOWN);
  });
  client.on("update", (message, live) => {
    stale.delete(message.topic);
    // The server's word on itself would hide that the market has fallen silent.
    if (!live || message.topic === "status") return;
    sources.set(message.source, performance.now());
    latest = Math.max(latest ?? 0, message.ts);
  });
  client.on("stale", ({ topic }) => stale.add(topic));
  client.on("fresh", ({ topic }) => stale.delete(topic));

  client.on("goodbye", ({ code, reason, reconnect: again, after_ms }) => {
    const next = again ? `Reconnecting in ${(after_ms / 1000).toFixed(1)} s.` : "It asked us not to reconnect.";
    notice.show("connection", `The server closes this connection: ${reason} (${code}). ${next}`);
  });
  client.on("conflated", ({ skipped }) => {
    const count = Object.values(skipped ?? {}).reduce((sum, n) => sum + n, 0);
    notice.show("pace", `${count} values merged because this connection is slow.`, PASSING_MS);
  });
  client.on("gap", ({ topic, reason }) => {
    notice.show("gap", `Events of ${topic} are missing (${reason}); showing a new snapshot.`, PASSING_MS);
  });
  client.on("error", ({ code, message, topics }) => {
    notice.show("error", `The server refused ${topics.join(", ") || "a request"}: ${message} (${code}).`, PASSING_MS);
  });

  setInterval(() => {
    const rate = perSecond.reduce((sum, n) => sum + n, 0) / RATE_WINDOW_S;
    perSecond.unshift(0);
    perSecond.length = RATE_WINDOW_S;
    const now = performance.now();
    for (const [source, heardAt] of sources) if (now - heardAt > 10_000) sources.delete(source);

    setText(byId("rate"), `${rate < 10 ? rate.toFixed(1) : Math.round(rate)}/s`);
    setText(byId("latest-age"), latest ? `${formatAge(client.serverNow() - latest)} ago` : UNKNOWN);
    setText(byId("stale-count"), String(stale.size));
    setData(byId("stale-count"), "warn", stale.size ? "" : null);
    setText(byId("sources"), [...sources.keys()].sort().join(", ") || UNKNOWN);
    byId("sources").title = byId("sources").textContent;
    setText(byId("last-id"), client.cursor ?? UNKNOWN);
    setText(byId("epoch"), parseId(client.cursor)?.epoch ?? byId("epoch").textContent);
    showDetail();
  }, 1000);
}

/** One bar, the newest word wins; a `subject` can take its own word back. */
function mountNotice(bar) {
  const text = bar.querySelector("span");
  let subject = null;
  let timer = null;

  function show(about, words, forMs = null) {
    subject = about;
    clearTimeout(timer);
    setText(text, words);
    bar.hidden = false;
    if (forMs) timer = setTimeout(() => clear(about), forMs);
  }
  function clear(about) {
    if (subject === about) bar.hidden = true;
  }
  bar.querySelector("button").addEventListener("click", () => clear(subject));
  return { show, clear };
}
