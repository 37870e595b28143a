/**
 * The one place that knows what is true now: the state of the connection, and for each topic its newest value and
 * whether it still holds. Title, icon, headline, legend, feeds and tables all derive from it, so none can show "live"
 * while another shows "lost".
 *
 * The link is `connecting`, `live`, `silent` (no message for longer than usual), `offline` (reported by the browser),
 * `reconnecting` or `closed`. A topic is `none` (no value yet), `live`, `stale` (reported by the server, or missing
 * after its restart) or `cut` (no live link confirms it).
 */

import { parseId } from "./client.js";
import { formatAge, formatWord } from "./format.js";
import { Pace } from "./pace.js";

const BEFORE_RESTART = "the server has restarted and has no newer value";
// Messages in flight when the network goes may still arrive; later ones show that the server can be reached.
const LAST_WORDS_MS = 5_000;
const WORDS = {
  connecting: "Connecting", live: "Connected", silent: "Silent", offline: "Offline", reconnecting: "Reconnecting", closed: "Closed",
};
const CUT = { silent: "silent", offline: "offline" };

export class Truth {
  /** `{ name, words, why, retryAt }`: the state, its display name, its cause, and when the next attempt is due. */
  link = { name: "connecting", words: WORDS.connecting, why: "", retryAt: null };
  /** By topic: `{ data, ts, received, source, stale, epoch }`, `stale` being null or `{ since, reason }`. */
  values = new Map();

  #client;
  #pace = new Pace();
  #offlineAt = -Infinity;
  #watchers = { link: new Set(), topic: new Set() };

  constructor(client) {
    this.#client = client;
    client.on("message", () => this.#received());
    client.on("state", () => this.#assess());
    client.on("update", ({ topic, id, data, ts, received, source }) => {
      this.#keep(topic, { data, ts, received, source, stale: null, epoch: parseId(id)?.epoch });
    });
    client.on("stale", ({ topic, age_ms, reason }) => this.#age(topic, { since: performance.now() - age_ms, reason: formatWord(reason) }));
    client.on("fresh", ({ topic }) => this.#age(topic, null));
    client.on("synced", ({ id }) => this.#forgetOthers(parseId(id)?.epoch));
    addEventListener("offline", () => this.#wentOffline());
    addEventListener("online", () => this.#cameOnline());
    setInterval(() => this.#assess(), 1_000);
  }

  /** Forget a topic that is no longer subscribed, because nothing confirms its value. */
  forget(topic) {
    this.values.delete(topic);
  }

  /** Call `listener(link)` when the link changes. */
  onLink(listener) {
    this.#watchers.link.add(listener);
  }

  /** Call `listener(topic)` when a value or its state changes, but not when only the link changes. */
  onTopic(listener) {
    this.#watchers.topic.add(listener);
  }

  /** Return whether the value of a topic holds: `{ state, ageMs, reason }`. */
  of(topic) {
    return this.ofValue(this.values.get(topic));
  }

  /** Return the same for a value. */
  ofValue(value) {
    if (!value) return { state: "none", ageMs: null, reason: "" };
    const trueMs = this.#client.serverNow() - value.ts;
    if (value.stale) return { state: "stale", ageMs: performance.now() - value.stale.since, reason: value.stale.reason };
    if (this.link.name !== "live") return { state: "cut", ageMs: trueMs, reason: this.#cutWord };
    return { state: "live", ageMs: trueMs, reason: "" };
  }

  /** Return the text beside a value that does not hold, such as "stale 3m"; "" if it holds or is missing. */
  warning(topic) {
    return this.warningOf(this.of(topic));
  }

  warningOf({ state, ageMs }) {
    if (state === "stale") return `stale ${formatAge(ageMs)}`;
    return state === "cut" ? `${this.#cutWord} ${formatAge(ageMs)}` : "";
  }

  get #cutWord() {
    return CUT[this.link.name] ?? "disconnected";
  }

  // --- the link

  #received() {
    this.#pace.record(performance.now());
    if (this.link.name === "silent" || this.link.name === "offline") this.#assess();
  }

  #wentOffline() {
    this.#offlineAt = performance.now();
    this.#assess();
    this.#client.prove();
  }

  #cameOnline() {
    this.#offlineAt = -Infinity;
    this.#assess();
    if (this.#client.state.name === "reconnecting") this.#client.connect();
    else this.#client.prove();
  }

  #assess() {
    const before = this.link;
    this.link = this.#linkNow();
    if (this.link.name === before.name && this.link.why === before.why && this.link.retryAt === before.retryAt) return;
    this.#notify("link", this.link);
    // A dead line looks like a quiet market until it is probed.
    if (this.link.name === "silent" && before.name !== "silent") this.#client.prove();
  }

  #linkNow() {
    const { name, code, reason, retryAt } = this.#client.state;
    const now = performance.now();
    const silentMs = this.#pace.silentMs(now);
    if (!navigator.onLine && now - silentMs <= this.#offlineAt + LAST_WORDS_MS) {
      return { name: "offline", words: WORDS.offline, why: "the browser reports that this device has no network", retryAt: null };
    }
    if (name === "live" && silentMs > this.#pace.patienceMs) {
      return { name: "silent", words: WORDS.silent, why: `no message for ${formatAge(silentMs)}`, retryAt: null };
    }
    const why = name === "live" || name === "connecting" ? "" : [code, reason].filter(Boolean).join(" ");
    return { name, words: WORDS[name], why, retryAt };
  }

  // --- the topics

  #keep(topic, value) {
    this.values.set(topic, value);
    this.#notify("topic", topic);
  }

  #age(topic, stale) {
    const value = this.values.get(topic);
    if (!value) return;
    value.stale = stale;
    this.#notify("topic", topic);
  }

  /** Mark values from before a restart of the server as old, until the new server sends them too. */
  #forgetOthers(epoch) {
    for (const [topic, value] of this.values) {
      if (value.epoch === epoch || value.stale) continue;
      this.#age(topic, { since: performance.now() - (this.#client.serverNow() - value.ts), reason: BEFORE_RESTART });
    }
  }

  #notify(what, ...words) {
    for (const listener of this.#watchers[what]) listener(...words);
  }
}
