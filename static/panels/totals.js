/** Shows the whole market in one line: market cap, volume and dominance. */

import { make, setData, setText } from "../dom.js";
import { follow } from "../follow.js";
import { formatCount, formatMoney, formatPercent, formatShare, UNKNOWN } from "../format.js";

const TOPIC = "market.global";
const NAMED = 3; // dominating coins shown by name; the rest is "others"

export function mountTotals(client, truth, status) {
  const panel = document.getElementById("totals");
  const [parts, shares] = [".parts", ".shares"].map((part) => panel.querySelector(part));
  const fact = (name) => panel.querySelector(`[data-fact=${name}]`);

  follow(client, truth, status, panel, { selectors: [TOPIC], category: TOPIC, draw });

  function draw(values) {
    const { data = {} } = values.get(TOPIC) ?? {};
    const { currency, total_market_cap, total_volume_24h, market_cap_change_24h_pct: change } = data;
    setText(fact("cap"), formatMoney(total_market_cap, currency));
    fact("cap").title = formatCount(total_market_cap);
    setText(fact("cap-change"), formatPercent(change));
    setData(fact("cap-change"), "sign", Math.sign(change ?? 0));
    setText(fact("volume"), formatMoney(total_volume_24h, currency));
    setText(fact("coins"), formatCount(data.active_cryptocurrencies));
    setText(fact("markets"), formatCount(data.markets));
    showDominance(data);
  }

  function showDominance({ dominance_pct, btc_dominance_pct: BTC, eth_dominance_pct: ETH }) {
    const known = Object.entries({ BTC, ETH, ...dominance_pct }).filter(([, percent]) => percent > 0);
    const top = known.sort(([, a], [, b]) => b - a).slice(0, NAMED);
    if (top.length) top.push(["Others", Math.max(0, 100 - top.reduce((sum, [, percent]) => sum + percent, 0))]);
    const share = ([name, percent]) => make("span", {}, make("i", { text: name }), ` ${formatShare(percent)}`);
    shares.replaceChildren(...top.map(share));
    if (!top.length) setText(shares, UNKNOWN);
    parts.replaceChildren(...top.map(([, percent]) => {
      const part = make("span");
      part.style.flexGrow = percent;
      return part;
    }));
  }
}
