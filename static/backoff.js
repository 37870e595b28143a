/** Delays that double from one attempt to the next, each drawn at random from its upper half. */

export class Backoff {
  #attempts = 0;

  constructor(firstMs, mostMs) {
    Object.assign(this, { firstMs, mostMs });
  }

  /** The next delay; not less than what the server asked for. */
  next(atLeastMs = 0) {
    const ceiling = Math.min(this.mostMs, this.firstMs * 2 ** this.#attempts++);
    return Math.max(atLeastMs, ceiling * (0.5 + Math.random() / 2));
  }

  reset() {
    this.#attempts = 0;
  }
}
