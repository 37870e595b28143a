/** Holds which chart is open. The URL hash (`#BTC/1m`) stores it, so a link opens the same chart. */

export const INTERVALS = ["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"];

function fromHash() {
  let parts = [];
  try {
    parts = decodeURIComponent(location.hash.slice(1)).split("/");
  } catch {
    // A malformed link opens the default chart.
  }
  return {
    symbol: parts[0]?.trim().toUpperCase() || "BTC",
    interval: INTERVALS.includes(parts[1]) ? parts[1] : "1m",
  };
}

export class Selection extends EventTarget {
  constructor() {
    super();
    Object.assign(this, fromHash());
    addEventListener("hashchange", () => this.set(fromHash()));
  }

  get hash() {
    return `#${encodeURIComponent(this.symbol)}/${this.interval}`;
  }

  /** Choose a chart. With `replace` the link is corrected, so "back" does not return to the wrong one. */
  set({ symbol = this.symbol, interval = this.interval }, { replace = false } = {}) {
    if (symbol === this.symbol && interval === this.interval) return;
    Object.assign(this, { symbol, interval });
    if (location.hash !== this.hash) history[replace ? "replaceState" : "pushState"](null, "", this.hash);
    this.dispatchEvent(new Event("change"));
  }
}
