/** Shows the connection: state, transport, pace, position, and the server's notices about it. */

import { parseId } from "../client.js";
import { setData, setText } from "../dom.js";
import { formatAge, UNKNOWN } from "../format.js";
import { recall, remember } from "../memory.js";

const TRANSPORTS = ["websocket", "sse"];
const RATE_WINDOW_S = 5;

/** Return the transport that was chosen last. */
export function rememberedTransport() {
  return recall("transport", (value) => TRANSPORTS.includes(value)) ?? TRANSPORTS[0];
}

export function mountConnection(client, truth, notice) {
  const byId = (id) => document.getElementById(id);
  const [pill, words, detail, reconnect, transport] =
    ["connection", "connection-state", "connection-detail", "reconnect", "transport"].map(byId);
  const perSecond = new Array(RATE_WINDOW_S).fill(0);
  const sources = new Map(); // source → when last heard, this page's clock
  let latest = null; // newest `ts` of a live update

  transport.value = client.transport;
  transport.addEventListener("change", () => {
    remember("transport", transport.value);
    client.use(transport.value);
  });
  reconnect.addEventListener("click", () => client.connect());

  truth.onLink(show);
  function show() {
    const { name } = truth.link;
    setData(pill, "state", name);
    setData(pill, "transport", client.transport);
    setData(document.documentElement, "connection", name);
    setText(words, truth.link.words);
    showDetail();
    if (name === "live") notice.clear("connection");
  }

  // Outside the live region, so that screen readers do not read the countdown aloud.
  function showDetail() {
    const { name, why, retryAt } = truth.link;
    const waitS = retryAt && Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
    setText(detail, [retryAt && `in ${waitS} s`, why].filter(Boolean).join(" · "));
    detail.title = why;
    reconnect.hidden = name !== "closed" && !(retryAt && waitS > 1);
  }

  client.on("message", (message) => {
    perSecond[0] += 1;
    if (message.type === "hello") setText(byId("epoch"), message.epoch ?? UNKNOWN);
  });
  client.on("update", (message, live) => {
    // Values about the server itself would hide that the market has fallen silent.
    if (!live || message.topic === "status") return;
    sources.set(message.source, performance.now());
    latest = Math.max(latest ?? 0, message.ts);
  });

  client.on("goodbye", ({ code, reason, reconnect: again }) => {
    // The time is shown and counted down beside the state only.
    const next = again ? "This page reconnects by itself." : "The server asked this page not to reconnect.";
    notice.show("connection", `The server closed this connection: ${reason} (${code}). ${next}`, null);
  });
  client.on("conflated", ({ skipped }) => {
    const count = Object.values(skipped ?? {}).reduce((sum, n) => sum + n, 0);
    notice.show("pace", `${count} values were merged because this connection is slow.`);
  });
  client.on("error", ({ code, message, topics }) => {
    // The panel of a topic shows why it has no value.
    if (!topics.length) notice.show("error", `The server refused a request: ${message} (${code}).`);
  });

  setInterval(() => {
    const rate = perSecond.reduce((sum, n) => sum + n, 0) / RATE_WINDOW_S;
    perSecond.unshift(0);
    perSecond.length = RATE_WINDOW_S;
    const now = performance.now();
    for (const [source, heardAt] of sources) if (now - heardAt > 10_000) sources.delete(source);
    const stale = [...truth.values.values()].filter((value) => truth.ofValue(value).state !== "live").length;

    setText(byId("rate"), `${rate < 10 ? rate.toFixed(1) : Math.round(rate)}/s`);
    setText(byId("latest-age"), latest ? `${formatAge(client.serverNow() - latest)} ago` : UNKNOWN);
    setText(byId("stale-count"), String(stale));
    setData(byId("stale-count"), "warn", stale ? "" : null);
    setText(byId("sources"), [...sources.keys()].sort().join(", ") || UNKNOWN);
    byId("sources").title = byId("sources").textContent;
    setText(byId("last-id"), client.cursor ?? UNKNOWN);
    setText(byId("epoch"), parseId(client.cursor)?.epoch ?? byId("epoch").textContent);
    showDetail();
  }, 1000);
  show();
}
