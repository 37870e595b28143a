/** Formats numbers and ages for people. Unknown is always "–", never 0. */

export const UNKNOWN = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);
const formats = new Map();

function fixed(decimals) {
  if (!formats.has(decimals)) {
    const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
    formats.set(decimals, new Intl.NumberFormat("en-US", digits));
  }
  return formats.get(decimals);
}

const compact = new Intl.NumberFormat("en-US", { notation: "compact", minimumFractionDigits: 2, maximumFractionDigits: 2 });

/** Return the decimals that keep four significant digits of any price, and the cents of a large one. */
function decimalsFor(price) {
  const size = Math.abs(price);
  if (size >= 100 || size === 0) return 2;
  return Math.min(18, Math.max(2, 3 - Math.floor(Math.log10(size))));
}

/** Return the number of decimals in a value, at most 12. */
export function decimalsIn(value) {
  const [, fraction = ""] = String(value).includes("e") ? value.toFixed(12).replace(/0+$/, "").split(".") : String(value).split(".");
  return Math.min(12, fraction.length);
}

/** Return the decimals to show a price with, given those shown `before`: as many as it has, so that nothing jumps. */
export function settledDecimals(before, price) {
  if (!known(price)) return before;
  return Math.max(before ?? 0, Math.min(decimalsFor(price), Math.max(2, decimalsIn(price))));
}

export function formatPrice(price, decimals = known(price) ? decimalsFor(price) : 0) {
  return known(price) ? fixed(decimals).format(price) : UNKNOWN;
}

/** Format as "+1.82", with a true minus sign, and without a sign if it rounds to zero. */
export function formatSigned(value) {
  if (!known(value)) return UNKNOWN;
  const text = fixed(2).format(Math.abs(value));
  if (Number(text) === 0) return text;
  return `${value < 0 ? "−" : "+"}${text}`;
}

export function formatPercent(percent) {
  return known(percent) ? `${formatSigned(percent)}%` : UNKNOWN;
}

/** Format a share of a whole, without a sign. */
export function formatShare(percent, decimals = 1) {
  return known(percent) ? `${fixed(decimals).format(percent)}%` : UNKNOWN;
}

export function formatCount(value) {
  return known(value) ? fixed(0).format(value) : UNKNOWN;
}

export function formatCompact(value) {
  if (!known(value)) return UNKNOWN;
  return value !== 0 && Math.abs(value) < 0.01 ? formatPrice(value) : compact.format(value);
}

/** "$2.31T", or "2.31T USDT" */
export function formatMoney(value, currency) {
  if (!known(value)) return UNKNOWN;
  if (currency && currency !== "usd") return `${formatCompact(value)} ${currency.toUpperCase()}`;
  return `$${formatCompact(value)}`;
}

/** "0.41 ms", "38 ms", "1.24 s" */
export function formatLatency(ms) {
  if (!known(ms)) return UNKNOWN;
  if (ms >= 1000) return `${fixed(2).format(ms / 1000)} s`;
  return `${fixed(ms < 1 ? 2 : ms < 10 ? 1 : 0).format(ms)} ms`;
}

export function formatAge(ms) {
  if (!known(ms)) return UNKNOWN;
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** "2026-11-22 06:00 UTC" */
export function formatTime(ms) {
  return `${new Date(ms).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** "rate limited" of `rate_limited`. */
export function formatWord(name) {
  return String(name ?? "").replaceAll("_", " ");
}
