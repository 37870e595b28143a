/** Shows the state of each chain: height, block time, and how full its blocks are. */

import { make, place, setData, setText } from "../dom.js";
import { follow } from "../follow.js";
import { formatCompact, formatCount, formatPrice, formatShare, UNKNOWN } from "../format.js";

const NAMES = {
  height: "Height", block_time_s: "Block time", price_usd: "Price", supply: "Supply", utilisation_pct: "Blocks used",
};

export function mountChain(client, truth, status) {
  const panel = document.getElementById("chain");
  const list = panel.querySelector(".chains");
  const blocks = new Map(); // topic → its elements
  // As for gas: Ethereum's place is reserved first.
  list.append(build("ethereum", blocks, "chain.ethereum").block);

  follow(client, truth, status, panel, { selectors: ["chain.ethereum", "chain.*"], category: "chain", draw });

  function draw(values) {
    for (const [topic, { data, stale }] of values) {
      const { block, cells, filled } = blocks.get(topic) ?? build(topic.slice("chain.".length), blocks, topic);
      const { height, block_time_s, price_usd, supply, utilisation_pct } = data;
      setText(cells.height, formatCount(height));
      setText(cells.block_time_s, Number.isFinite(block_time_s) ? `${formatPrice(block_time_s, 2)} s` : UNKNOWN);
      setText(cells.price_usd, Number.isFinite(price_usd) ? `$${formatPrice(price_usd)}` : UNKNOWN);
      setText(cells.supply, formatCompact(supply));
      cells.supply.title = formatCount(supply);
      setText(cells.utilisation_pct, formatShare(utilisation_pct));
      filled.style.width = `${Math.min(100, Math.max(0, utilisation_pct ?? 0))}%`;
      setData(block, "stale", stale ? "true" : null);
    }
    place(list, [...values.keys()].sort().map((topic) => blocks.get(topic).block));
  }
}

function build(chain, blocks, topic) {
  const cells = Object.fromEntries(Object.keys(NAMES).map((name) => [name, make("dd", { text: UNKNOWN })]));
  const row = (name) => make("div", {}, make("dt", { text: NAMES[name] }), cells[name]);
  const filled = make("span");
  const block = make("div", { className: "chain", "data-topic": topic },
    make("p", { className: "chain-name" }, make("b", { text: chain })),
    make("dl", { className: "pairs" }, ...Object.keys(NAMES).map(row)),
    make("div", { className: "fill", "aria-hidden": "true" }, filled));
  blocks.set(topic, { block, cells, filled });
  return blocks.get(topic);
}
