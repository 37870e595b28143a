/** Understands the spellings that people search with: `BTC`, `btc/usdt`, `BTC-USDT`, `bitcoin`. */

/** Return only the letters and digits, in upper case. */
export function plain(text) {
  return String(text ?? "").toUpperCase().replace(/[^\p{L}\p{N}]/gu, "");
}

/** Return the rank of a match, 0 for the best, null for none. `names` are names of the coin, such as its id. */
export function matchRank(needle, { symbol, pair, names = [] }) {
  const wanted = plain(needle);
  if (!wanted || wanted === plain(symbol) || wanted === plain(pair)) return 0;
  const plainNames = names.map(plain);
  if (plainNames.includes(wanted)) return 1;
  if (plain(symbol).startsWith(wanted)) return 2;
  const found = [plain(symbol), plain(pair), ...plainNames].some((each) => each.includes(wanted));
  return found ? 3 : null;
}
