/** Delays that double with each attempt; each is drawn at random from the upper half of its range. */

export class Backoff {
  #attempts = 0;

  constructor(firstMs, mostMs) {
    Object.assign(this, { firstMs, mostMs });
  }

  /** Return the next delay; at least what the server asked for. */
  next(atLeastMs = 0) {
    const ceiling = Math.min(this.mostMs, this.firstMs * 2 ** this.#attempts++);
    return Math.max(atLeastMs, ceiling * (0.5 + Math.random() / 2));
  }

  reset() {
    this.#attempts = 0;
  }
}
