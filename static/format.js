/** Numbers and ages as people read them. Unknown is always "–", never 0. */

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

/** Decimals that keep four significant digits of any price, and cents of a large one. */
function decimalsFor(price) {
  const size = Math.abs(price);
  if (size >= 100 || size === 0) return 2;
  return Math.min(18, Math.max(2, 3 - Math.floor(Math.log10(size))));
}

/** Decimals a value is written with, at most 12. */
export function decimalsIn(value) {
  const [, fraction = ""] = String(value).includes("e") ? value.toFixed(12).replace(/0+$/, "").split(".") : String(value).split(".");
  return Math.min(12, fraction.length);
}

export function formatPrice(price, decimals = known(price) ? decimalsFor(price) : 0) {
  return known(price) ? fixed(decimals).format(price) : UNKNOWN;
}

export function formatPercent(percent) {
  if (!known(percent)) return UNKNOWN;
  const text = fixed(2).format(Math.abs(percent));
  if (Number(text) === 0) return `${text}%`;
  return `${percent < 0 ? "−" : "+"}${text}%`;
}

export function formatCompact(value) {
  if (!known(value)) return UNKNOWN;
  return value !== 0 && Math.abs(value) < 0.01 ? formatPrice(value) : compact.format(value);
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
