/** Shows gas fees by chain. They are often far below one gwei, so small fees keep their digits. */

import { make, place, setData, setText } from "../dom.js";
import { follow } from "../follow.js";
import { formatCount, formatPrice } from "../format.js";

const SPEEDS = { slow: "Slow", standard: "Standard", fast: "Fast" };

export function mountGas(client, truth, status) {
  const panel = document.getElementById("gas");
  const list = panel.querySelector(".chains");
  const blocks = new Map(); // topic → its elements
  // Ethereum's place is reserved, so that nothing moves when its value arrives.
  list.append(build("ethereum", blocks, "gas.ethereum").block);

  follow(client, truth, status, panel, { selectors: ["gas.ethereum", "gas.*"], category: "gas", draw });

  function draw(values) {
    for (const [topic, { data, stale }] of values) {
      const { block, cells } = blocks.get(topic) ?? build(topic.slice("gas.".length), blocks, topic);
      for (const name of [...Object.keys(SPEEDS), "base_fee"]) {
        const text = formatPrice(data[name]);
        setText(cells[name], text);
        setData(cells[name], "long", text.length > 7 ? "" : null);
        cells[name].title = data[name] === null || data[name] === undefined ? "" : `${data[name]} gwei`;
      }
      setText(cells.block, formatCount(data.block));
      setData(block, "stale", stale ? "true" : null);
    }
    place(list, [...values.keys()].sort().map((topic) => blocks.get(topic).block));
  }
}

function build(chain, blocks, topic) {
  const cell = () => make("dd", { text: "–" });
  const cells = { slow: cell(), standard: cell(), fast: cell(), base_fee: cell(), block: cell() };
  const tile = (name) => make("div", { className: name }, make("dt", { text: SPEEDS[name] }), cells[name]);
  const block = make("div", { className: "chain", "data-topic": topic },
    make("p", { className: "chain-name" }, make("b", { text: chain }), " gwei for a unit of gas"),
    make("dl", { className: "tiles" }, ...Object.keys(SPEEDS).map(tile)),
    make("dl", { className: "columns" },
      make("div", {}, make("dt", { text: "Base fee" }), cells.base_fee),
      make("div", {}, make("dt", { text: "Block" }), cells.block)));
  blocks.set(topic, { block, cells });
  return blocks.get(topic);
}
