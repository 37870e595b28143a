/** How often the stream speaks, learned from the last minute, and so which silence is longer than usual. */

const BUCKET_MS = 1_000;
const KEPT = 60;
const LEARNED_FROM = 5;
const SLACK_MS = 4_000;
// The server breaks every silence after 30 s.
const AT_MOST_MS = 34_000;

export class Pace {
  #longest = []; // { bucket, gapMs }: the longest pause that ended in each second in which something came
  #heardAt = null;

  /** Something came at `now`, in ms of any clock that runs evenly. */
  heard(now) {
    const gapMs = this.#heardAt === null ? 0 : now - this.#heardAt;
    this.#heardAt = now;
    const bucket = Math.floor(now / BUCKET_MS);
    const last = this.#longest.at(-1);
    if (last?.bucket === bucket) last.gapMs = Math.max(last.gapMs, gapMs);
    else this.#longest.push({ bucket, gapMs });
    while (this.#longest[0].bucket <= bucket - KEPT || this.#longest.length > KEPT) this.#longest.shift();
  }

  /** How long nothing has come. */
  silentMs(now) {
    return this.#heardAt === null ? 0 : now - this.#heardAt;
  }

  /** From which silence on something is wrong. One pause longer than the others does not raise it. */
  get patienceMs() {
    if (this.#longest.length < LEARNED_FROM) return AT_MOST_MS;
    const gaps = this.#longest.map(({ gapMs }) => gapMs).sort((a, b) => a - b);
    return Math.min(AT_MOST_MS, gaps[Math.floor(0.9 * (gaps.length - 1))] + SLACK_MS);
  }
}
