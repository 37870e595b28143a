/**
 * A client for the stream, over WebSocket or Server-Sent Events, for any page or runtime that has
 * `WebSocket`, `EventSource` and `fetch`. It does not use the DOM, so you can copy it.
 *
 *   const stream = new StreamClient("https://host"); // or "https://host/path" behind a proxy
 *   stream.on("update", (message, live) => console.log(message.topic, message.data));
 *   stream.on("state", (state) => console.log(state.name, state.reason));
 *   stream.subscribe(["price.*", "news"]);
 *   stream.connect();
 *
 * If the server requires tokens, `ticket` is a function that resolves to a new ticket from `POST /api/ticket` for
 * each connection, or to null while none is needed. A connection without its ticket ends with code 4500.
 *
 * Events: `state`, `message` (every message), and each message type of the protocol: `hello`
 * `subscribed` `synced` `update` `stale` `fresh` `gap` `conflated` `pos` `error` `goodbye`. An `error` also has
 * the refused `topics`.
 */

const CONNECT_MS = 15_000;
const PROOF_MS = 5_000;
// The server sends `pos` after 30 s of silence, so a longer silence means a dead line.
const SILENCE_MS = 45_000;
// A connection that ends early must not reset the backoff, or the page would hammer a server in a crash loop.
const STABLE_MS = 10_000;
const FIRST_RETRY_MS = 500;
const MAX_RETRY_MS = 30_000;

/** The close code for clients that may not connect; a refusal of SSE is reported with it too. */
export const UNAUTHORISED = 4500;

const MESSAGE_TYPES = [
  "hello", "subscribed", "synced", "stale", "fresh", "gap", "conflated", "pos", "error", "goodbye",
];
const RECONNECTABLE = new Set([1000, 1001, 1005, 1006, 1011, 1012, 1013, 1015]);

/** Return whether a WebSocket close code allows a reconnect. */
export function mayReconnect(code) {
  return code >= 4000 ? code < 4500 : RECONNECTABLE.has(code);
}

/** Split `<epoch>-<seq>`; null for anything else. */
export function parseId(id) {
  const dash = id?.lastIndexOf("-") ?? -1;
  const seq = Number(id?.slice(dash + 1));
  return dash > 0 && Number.isSafeInteger(seq) ? { epoch: id.slice(0, dash), seq } : null;
}

/** Return the earlier of two cursors; null (a full snapshot) if they cannot be compared. */
function olderOf(a, b) {
  const [left, right] = [parseId(a), parseId(b)];
  if (!left || left.epoch !== right?.epoch) return null;
  return left.seq <= right.seq ? a : b;
}

/** Return whether a pattern such as `price.*` or `ohlcv.BTC.>` covers this topic. */
export function topicMatches(pattern, topic) {
  const wanted = pattern.split(".");
  const parts = topic.split(".");
  for (const [i, part] of wanted.entries()) {
    if (part === ">") return parts.length > i;
    if (i >= parts.length || (part !== "*" && part !== parts[i])) return false;
  }
  return parts.length === wanted.length;
}

/** Return the topics of a refusal, parsed on SSE from `topic 'price.NOPE': …`; `otherwise` if it names none. */
function namedIn({ message, topics: about }, topics, otherwise) {
  const named = topics.filter((topic) => (about ? about.includes(topic) : message?.includes(`'${topic}'`)));
  return named.length ? named : otherwise;
}

export class StreamClient {
  /** The position of the stream; send it as `since` to miss nothing. Null before the first `synced`. */
  cursor = null;
  state = { name: "closed", code: null, reason: "not started", retryAt: null };

  #base;
  #transport;
  #ticket;
  #link = null;
  #wanted = new Map(); // topic → { since, held, req }; `held` once a snapshot or replay of it is complete
  #removed = new Set();
  #requests = new Map(); // req → topics still unanswered
  #lastReq = 0;
  #syncing = null; // the request between its `subscribed` and `synced`
  #epoch = null;
  #seen = new Map(); // topic → seq in this epoch, so that overlapping replays are delivered once
  #listeners = new Map();
  #flushQueued = false;
  #attempts = 0;
  #goodbye = null;
  #openedAt = 0;
  #liveSince = 0;
  #lastHeardAt = 0;
  #clockOffsetMs = null;
  #retryTimer = null;
  #watchdog = null;
  #proof = null;

  constructor(base, { transport = "websocket", ticket = () => null } = {}) {
    // The trailing slash keeps relative paths below it.
    this.#base = new URL(base);
    this.#base.pathname = this.#base.pathname.replace(/\/?$/, "/");
    this.#transport = transport;
    this.#ticket = ticket;
  }

  get transport() {
    return this.#transport;
  }

  get topics() {
    return [...this.#wanted.keys()];
  }

  /** Call `listener` for each event of this type; returns a function that stops it. */
  on(type, listener) {
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
    return () => this.#listeners.get(type).delete(listener);
  }

  /** Subscribe to topics or patterns. `since` is an id or the `position` of a REST answer; without it a snapshot is sent. */
  subscribe(topics, { since = null } = {}) {
    for (const topic of topics) this.#wanted.set(topic, { since, held: false, req: null });
    this.#queueFlush();
  }

  unsubscribe(topics) {
    for (const topic of topics) {
      const entry = this.#wanted.get(topic);
      if (!entry) continue;
      this.#wanted.delete(topic);
      if (entry.req !== null) this.#removed.add(topic);
      for (const seen of this.#seen.keys()) if (topicMatches(topic, seen)) this.#seen.delete(seen);
    }
    this.#queueFlush();
  }

  /** Connect, or reconnect now instead of after the backoff. */
  connect() {
    clearTimeout(this.#retryTimer);
    this.#watchdog ??= setInterval(() => this.#watch(), 2_000);
    this.#open();
  }

  close() {
    clearTimeout(this.#retryTimer);
    clearInterval(this.#watchdog);
    this.#watchdog = null;
    this.#drop();
    this.#setState("closed", { reason: "closed by this client" });
  }

  /** Continue over the other transport, from the same cursor. */
  use(transport) {
    if (transport === this.#transport) return;
    this.#transport = transport;
    this.#attempts = 0;
    this.connect();
  }

  /** Ping the server, and reconnect if it does not answer within `withinMs`. */
  prove(withinMs = PROOF_MS) {
    const link = this.#link;
    if (this.state.name !== "live" || this.#proof) return;
    // SSE has no ping; a new stream from the same cursor is an answer as well.
    if (this.#transport === "sse") return this.#open();
    const askedAt = Date.now();
    this.#send({ op: "ping" });
    this.#proof = setTimeout(() => {
      this.#proof = null;
      if (link === this.#link && this.#lastHeardAt < askedAt) this.#lost({ reason: "no answer", reconnect: true });
    }, withinMs);
  }

  /** Return the server's clock, from `hello` and live messages; on a tape that is the time of the recording. */
  serverNow() {
    return Date.now() - (this.#clockOffsetMs ?? 0);
  }

  // --- the life of a connection

  #open() {
    this.#drop();
    this.#goodbye = null;
    this.#openedAt = this.#lastHeardAt = Date.now();
    this.#liveSince = 0;
    this.#setState("connecting");
    const coming = this.#ticket();
    if (coming === null) return this.#openWith(null);
    const waiting = { ready: false, send() {}, close() {} };
    this.#link = waiting;
    const ifPresent = (act) => (result) => waiting === this.#link && act(result);
    coming.then(
      ifPresent((ticket) => this.#openWith(ticket)),
      ifPresent(() => this.#lost({ reason: "cannot get a ticket", reconnect: true })),
    );
  }

  #openWith(ticket) {
    const open = this.#transport === "sse" ? openEvents : openSocket;
    // A replaced link may still deliver; only the current one counts.
    const present = (act) => (...args) => link === this.#link && act(...args);
    const link = open(this.#base, this.#plan(), ticket, {
      renewed: () => this.#ticket(),
      message: present((message) => this.#receive(message)),
      retrying: present(() => this.#retriedByBrowser()),
      lost: present((loss) => this.#lost(loss)),
    });
    this.#link = link;
  }

  #drop() {
    const link = this.#link;
    clearTimeout(this.#proof);
    this.#proof = null;
    this.#link = null;
    this.#requests.clear();
    this.#removed.clear();
    this.#syncing = null;
    for (const entry of this.#wanted.values()) entry.req = null;
    link?.close();
  }

  #lost({ code = null, reason = "", reconnect, refused = null }) {
    const goodbye = this.#goodbye;
    this.#drop();
    if (refused) {
      // SSE answers for all topics at once, so one refused topic must not silence the others.
      const fresh = this.topics.filter((topic) => !this.#wanted.get(topic).held);
      const topics = namedIn(refused, this.topics, fresh);
      topics.forEach((topic) => this.#wanted.delete(topic));
      this.#emit("error", { type: "error", ...refused, topics });
      if (topics.length && this.#wanted.size) return this.#open();
    }
    const why = { code: goodbye?.code ?? code, reason: goodbye?.reason || reason || (code === 1006 ? "connection lost" : "") };
    if (!(goodbye?.reconnect ?? reconnect)) return this.#setState("closed", why);
    this.#retryIn(goodbye?.after_ms ?? this.#backoffMs(), why);
  }

  #backoffMs() {
    const ceiling = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#attempts++);
    return ceiling * (0.5 + Math.random() / 2);
  }

  #retryIn(delayMs, why) {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#open(), delayMs);
    this.#setState("reconnecting", { ...why, retryAt: Date.now() + delayMs });
  }

  /** Handle an `EventSource` that reconnects by itself, with the last id it saw. */
  #retriedByBrowser() {
    // Within a snapshot its last id is that of an old value, not a position; `#cursor` is right.
    if (this.state.name === "connecting" || this.#syncing || this.#goodbye) {
      return this.#lost({ reason: "connection lost", reconnect: true });
    }
    // If the browser's retries fail, the watchdog takes over, with backoff.
    this.#setState("reconnecting", { reason: "connection lost" });
  }

  #watch() {
    if (!this.#link) return;
    const now = Date.now();
    if (now - this.#lastHeardAt > SILENCE_MS) {
      this.#lost({ reason: "no message for too long", reconnect: true });
    } else if (this.state.name === "connecting" && now - this.#openedAt > CONNECT_MS) {
      this.#lost({ reason: "no answer", reconnect: true });
    }
  }

  #setState(name, { code = null, reason = "", retryAt = null } = {}) {
    this.state = { name, code, reason, retryAt };
    this.#emit("state", this.state);
  }

  #emit(type, ...args) {
    for (const listener of this.#listeners.get(type) ?? []) listener(...args);
  }

  // --- subscriptions

  /** Return the subscriptions of a new connection: held topics resume at the cursor, new ones at their own `since`. */
  #plan() {
    return this.topics.map((topic) => {
      const { held, since } = this.#wanted.get(topic);
      return { topic, since: held ? this.cursor : since };
    });
  }

  #queueFlush() {
    if (this.#flushQueued) return;
    this.#flushQueued = true;
    // Changes made together are sent together; on SSE that is one new stream instead of several.
    queueMicrotask(() => {
      this.#flushQueued = false;
      if (!this.#link) return;
      if (this.#transport === "sse") this.#open();
      else if (this.#link.ready) this.#ask();
    });
  }

  /** Send the changes that the WebSocket does not know yet. */
  #ask() {
    if (this.#removed.size) this.#send({ op: "unsubscribe", topics: [...this.#removed] });
    this.#removed.clear();
    const bySince = new Map();
    for (const { topic, since } of this.#plan()) {
      if (this.#wanted.get(topic).req !== null) continue;
      bySince.set(since, [...(bySince.get(since) ?? []), topic]);
    }
    for (const [since, topics] of bySince) this.#askFor(topics, since);
    if (!this.#wanted.size) this.#becomeLive();
  }

  #askFor(topics, since) {
    const req = this.#send({ op: "subscribe", topics, ...(since && { since }) });
    this.#requests.set(req, { topics });
    for (const topic of topics) this.#wanted.get(topic).req = req;
  }

  #send(request) {
    const req = ++this.#lastReq;
    this.#link.send({ ...request, req });
    return req;
  }

  /** Drop refused topics; the server serves the others of the same request. */
  #refused(message) {
    const request = this.#requests.get(message.req);
    // Without `req` the server refuses a topic that it had accepted before.
    const asked = request?.topics.filter((topic) => this.#wanted.get(topic)?.req === message.req) ?? this.topics;
    const topics = namedIn(message, asked, request ? asked : []);
    topics.forEach((topic) => this.#wanted.delete(topic));
    if (topics.length === asked.length) this.#requests.delete(message.req);
    this.#emit("error", { ...message, topics });
    if (!this.#requests.size && !this.#syncing) this.#becomeLive();
  }

  #becomeLive() {
    if (this.state.name === "live") return;
    this.#liveSince = Date.now();
    this.#setState("live");
  }

  // --- messages

  #receive(message) {
    this.#lastHeardAt = Date.now();
    this.#emit("message", message);
    switch (message.type) {
      case "update":
        return this.#update(message);
      case "hello":
        if (message.now) this.#clockOffsetMs = this.#lastHeardAt - message.now;
        if (this.#transport === "websocket") this.#ask();
        break;
      case "subscribed":
        // From here to `synced`, ids belong to old values and are not a position.
        this.#syncing = { req: message.req ?? null, topics: this.#requests.get(message.req)?.topics ?? this.topics };
        break;
      case "synced":
        this.#synced(message);
        break;
      case "pos":
        this.#advance(message.id);
        break;
      case "error":
        return this.#refused(message);
      case "goodbye":
        this.#goodbye = message;
        // The browser would reconnect at once instead of after `after_ms`.
        if (this.#transport === "sse") setTimeout((link) => link === this.#link && this.#lost({}), 0, this.#link);
        break;
    }
    this.#emit(message.type, message);
  }

  #update(message) {
    const id = parseId(message.id);
    const live = !this.#syncing;
    if (live) {
      const offset = this.#lastHeardAt - message.received;
      this.#clockOffsetMs = Math.min(this.#clockOffsetMs ?? Infinity, offset);
      this.#advance(message.id);
    }
    if (id) {
      if (id.epoch !== this.#epoch) this.#seen.clear();
      this.#epoch = id.epoch;
      if (id.seq <= this.#seen.get(message.topic)) return;
      this.#seen.set(message.topic, id.seq);
    }
    this.#emit("update", message, live);
  }

  #synced(message) {
    const { req, topics } = this.#syncing ?? { req: null, topics: [] };
    for (const topic of topics) {
      const entry = this.#wanted.get(topic);
      // With another `req` it was dropped and subscribed again, from elsewhere, since this request.
      if (entry?.req === req) entry.held = true;
    }
    this.#requests.delete(req);
    this.#syncing = null;
    this.#advance(message.id);
    this.#becomeLive();
  }

  #advance(id) {
    // While another replay is pending, a newer cursor would skip it if the line broke now.
    if (this.#requests.size) return;
    const [next, now] = [parseId(id), parseId(this.cursor)];
    if (next && !(now?.epoch === next.epoch && now.seq > next.seq)) this.cursor = id;
    if (this.#liveSince && this.#lastHeardAt - this.#liveSince > STABLE_MS) this.#attempts = 0;
  }
}

// --- transports: each yields { send, close, ready } and calls `message`, `lost` (and `retrying`)

function openSocket(base, _plan, ticket, on) {
  // Batched: one array per write is less to parse, and the browser inflates it.
  const url = new URL("ws?batch=1", base);
  if (ticket) url.searchParams.set("ticket", ticket);
  const socket = new WebSocket(url.href.replace(/^http/, "ws"));
  socket.onmessage = ({ data }) => JSON.parse(data).forEach((message) => on.message(message));
  socket.onclose = ({ code, reason }) => on.lost({ code, reason, reconnect: mayReconnect(code) });
  return {
    get ready() {
      return socket.readyState === WebSocket.OPEN;
    },
    send: (request) => socket.send(JSON.stringify(request)),
    close: () => socket.close(1000),
  };
}

function openEvents(base, plan, ticket, on) {
  const url = new URL("sse", base);
  url.searchParams.set("topics", plan.map(({ topic }) => topic).join(","));
  // One stream has one cursor: the oldest that any topic needs. Duplicates are dropped on arrival.
  const since = plan.map((wanted) => wanted.since).reduce((a, b) => (a === b ? a : olderOf(a, b)), plan[0]?.since);
  if (since) url.searchParams.set("last_event_id", since);
  if (ticket) url.searchParams.set("ticket", ticket);

  const source = new EventSource(url);
  const receive = ({ data }) => on.message(JSON.parse(data));
  source.onmessage = receive;
  for (const type of MESSAGE_TYPES) {
    if (type !== "error") source.addEventListener(type, receive);
  }
  source.addEventListener("error", (event) => {
    // The protocol's `error` and the browser's share a name; only the protocol's carries data.
    if (event.data !== undefined) return receive(event);
    if (source.readyState === EventSource.CLOSED) return refusalOf(url, ticket && on.renewed).then(on.lost);
    // The browser's next attempt would send the spent ticket again.
    if (ticket) return on.lost({ reason: "connection lost", reconnect: true });
    on.retrying();
  });
  return { ready: true, send() {}, close: () => source.close() };
}

/** Ask once more with `fetch`, because `EventSource` hides why it was refused. */
async function refusalOf(url, renewed) {
  const abort = new AbortController();
  try {
    if (renewed) url.searchParams.set("ticket", await renewed());
    const answer = await fetch(url, { signal: abort.signal, headers: { accept: "text/event-stream" } });
    if (answer.ok) return { reason: "connection lost", reconnect: true };
    const { error = {} } = await answer.json().catch(() => ({}));
    if (answer.status === 401) return { code: UNAUTHORISED, reason: error.message, reconnect: false };
    const refused = { code: error.code ?? `http_${answer.status}`, message: error.message ?? answer.statusText };
    const final = answer.status < 500 && answer.status !== 429;
    return { code: answer.status, reason: refused.message, reconnect: !final, refused: final ? refused : null };
  } catch {
    return { reason: "cannot reach the server", reconnect: true };
  } finally {
    abort.abort();
  }
}
