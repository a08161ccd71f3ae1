// A sortable table as accessible HTML: headings are buttons, and say how the table is sorted.

import {element, fill} from "./elements.js";
import {cut} from "./format.js";

/** Fills `node`; `sortBy(key)` is called by the headings. `cellText(cell, column, numSeeds)` writes a cell. */
export function showTable(node, {columns, rows}, {sort, order, sortBy, cellText, caption}) {
  const heading = (key, title, unit, kind) => {
    const state = sort === key ? (order === "up" ? "ascending" : "descending") : "none";
    const arrow = state === "none" ? "" : order === "up" ? " ↑" : " ↓";
    const button = element("button", {type: "button", onclick: () => sortBy(key)}, title + arrow);
    return element("th", {scope: "col", class: kind, "aria-sort": state}, button, unit ? element("small", {}, unit) : null);
  };
  const head = element("tr", {}, heading("name", "Run", "", "name"), ...columns.map(({key, title, unit}) => heading(key, title, unit, "value")));
  const body = rows.map((row) => {
    const swatch = element("span", {class: "swatch", style: `background:${row.colour}`});
    const seeds = row.numSeeds > 1 ? element("small", {}, `${row.numSeeds} seeds`) : null;
    const name = element("th", {scope: "row", class: "name", title: row.name}, swatch, cut(row.name, 48), seeds);
    return element("tr", {}, name, ...row.cells.map((cell, i) => element("td", {class: "value"}, cellText(cell, columns[i], row.numSeeds))));
  });
  fill(node, element("table", {class: "compare"}, element("caption", {class: "unseen"}, caption), element("thead", {}, head), element("tbody", {}, ...body)));
}
