/** How people spell what they look for: `BTC`, `btc/usdt`, `BTC-USDT`, `bitcoin`. */

/** Letters and digits alone, in upper case. */
export function plain(text) {
  return String(text ?? "").toUpperCase().replace(/[^\p{L}\p{N}]/gu, "");
}

/** The rank of a match, the best being 0; null for none. `names` are those of the coin, such as its id. */
export function matchRank(needle, { symbol, pair, names = [] }) {
  const wanted = plain(needle);
  if (!wanted || wanted === plain(symbol) || wanted === plain(pair)) return 0;
  const plainNames = names.map(plain);
  if (plainNames.includes(wanted)) return 1;
  if (plain(symbol).startsWith(wanted)) return 2;
  const found = [plain(symbol), plain(pair), ...plainNames].some((each) => each.includes(wanted));
  return found ? 3 : null;
}
