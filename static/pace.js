/** Learns the pace of the stream from the last minute, and from it which silence is unusual. */

const BUCKET_MS = 1_000;
const KEPT = 60;
const LEARNED_FROM = 5;
const SLACK_MS = 4_000;
// The server sends `pos` after 30 s of silence.
const AT_MOST_MS = 34_000;

export class Pace {
  #longest = []; // { bucket, gapMs }: the longest pause that ended in each second that had a message
  #receivedAt = null;

  /** Record a message at `now`, in ms of any steady clock. */
  record(now) {
    const gapMs = this.#receivedAt === null ? 0 : now - this.#receivedAt;
    this.#receivedAt = now;
    const bucket = Math.floor(now / BUCKET_MS);
    const last = this.#longest.at(-1);
    if (last?.bucket === bucket) last.gapMs = Math.max(last.gapMs, gapMs);
    else this.#longest.push({ bucket, gapMs });
    while (this.#longest[0].bucket <= bucket - KEPT || this.#longest.length > KEPT) this.#longest.shift();
  }

  /** Return how long there has been no message. */
  silentMs(now) {
    return this.#receivedAt === null ? 0 : now - this.#receivedAt;
  }

  /** Return the silence that counts as a fault. A single longer pause does not raise it. */
  get patienceMs() {
    if (this.#longest.length < LEARNED_FROM) return AT_MOST_MS;
    const gaps = this.#longest.map(({ gapMs }) => gapMs).sort((a, b) => a - b);
    return Math.min(AT_MOST_MS, gaps[Math.floor(0.9 * (gaps.length - 1))] + SLACK_MS);
  }
}
