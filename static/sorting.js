/** Column heads that sort, by which column and in which direction. */

import { setAttribute } from "./dom.js";
import { recall, remember } from "./memory.js";

/**
 * `keys` gives the value to sort by for each `data-sort`; a column in `upFirst` starts with its smallest.
 * `compare` of the result goes into `Array.sort`; `tieBreak` decides among equals. The choice is remembered under
 * `name`.
 */
export function mountSorting(name, heads, keys, { key, down, upFirst = [], tieBreak, onChange }) {
  const memory = `sort.${name}`;
  const sort = recall(memory, (value) => value?.key in keys && typeof value.down === "boolean") ?? { key, down };

  function compare(a, b) {
    const [x, y] = [keys[sort.key](a) ?? null, keys[sort.key](b) ?? null];
    // Unknown values come last in both directions.
    if (x === null || y === null) return (x === null) - (y === null) || tieBreak(a, b);
    if (x === y) return tieBreak(a, b);
    return (x < y) === sort.down ? 1 : -1;
  }

  function show() {
    for (const head of heads) {
      const sorted = head.dataset.sort === sort.key ? (sort.down ? "descending" : "ascending") : null;
      setAttribute(head, "aria-sort", sorted);
    }
  }

  for (const head of heads) {
    head.addEventListener("click", () => {
      const chosen = head.dataset.sort;
      sort.down = sort.key === chosen ? !sort.down : !upFirst.includes(chosen);
      sort.key = chosen;
      remember(memory, sort);
      show();
      onChange();
    });
  }
  show();
  return { compare };
}
