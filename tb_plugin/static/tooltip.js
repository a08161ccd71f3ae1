// The tooltip of lines: all runs at the place of the pointer, largest first, with TensorBoard's colours.
//
// Plotly's own would show the runs that happen to have a point exactly there, and runs are measured at
// different updates. Places come from Plotly's drawn axes (`_offset`, `_length`, `p2d`, `d2p`).

import {element, fill} from "./elements.js";
import {cut, number} from "./format.js";
import {X_TITLES} from "./panes.js";

const MOST_ROWS = 30;
const MOST_COLUMNS = 8;
const FAR = 0.03; // share of the axis

/**
 * For one pane's traces and a place on its x axis: {columns, rows: [{run, colour, x, far, cells}], hidden}. `far` says
 * that the run's nearest point lies away from the place, by more than a share of the axis' `range`. Pure.
 */
export function tooltipRows(traces, x, range, log = false) {
  const to = log ? Math.log : (value) => value;
  const slack = FAR * Math.abs(to(range[1]) - to(range[0]));
  const rows = new Map();
  const columns = new Set();
  for (const trace of traces) {
    const {run, column, colour, low, high, open} = trace.meta;
    const i = nearest(trace, x, to);
    if (i < 0) continue;
    columns.add(column);
    if (!rows.has(run)) rows.set(run, {run, colour, x: trace.x[i], far: Math.abs(to(trace.x[i]) - to(x)) > slack, cells: {}});
    rows.get(run).cells[column] = {value: trace.y[i], range: low && high ? [low[i], high[i]] : null, open: Boolean(open && open[i])};
  }
  const ranked = [...columns].sort((a, b) => placeOf(a) - placeOf(b)).slice(0, MOST_COLUMNS);
  const size = (row) => (row.cells[ranked[0]] ? row.cells[ranked[0]].value : -Infinity);
  const sorted = [...rows.values()].sort((a, b) => size(b) - size(a));
  return {columns: ranked, rows: sorted.slice(0, MOST_ROWS), hidden: Math.max(0, sorted.length - MOST_ROWS)};
}

/** Top values first, then those of the bottom, then the line that they are compared with. */
function placeOf(column) {
  return column.startsWith("λ min") ? 1 : ["2 / rate", "train"].includes(column) ? 2 : 0;
}

function nearest(trace, x, to) {
  let [best, distance] = [-1, Infinity];
  for (let i = 0; i < trace.x.length; i += 1) {
    if (trace.y[i] === null || trace.y[i] === undefined || !Number.isFinite(trace.y[i])) continue;
    const away = Math.abs(to(trace.x[i]) - to(x));
    if (away < distance) [best, distance] = [i, away];
  }
  return best;
}

/** Gives a drawn figure its tooltip. `axisName()` says what x is. Returns {show(x), hide()} for the keyboard. */
export function attachTooltip(node, box, axisName) {
  const rule = element("div", {class: "rule", "aria-hidden": "true"});
  const hide = () => {
    box.hidden = true;
    rule.hidden = true;
  };
  const showIn = (pane, x, clientX, clientY) => {
    const traces = node.data.filter((trace) => trace.meta && trace.meta.part === "value" && (trace.xaxis || "x") === pane.id);
    const range = [0, pane.x._length].map((left) => pane.x.p2d(left));
    const found = tooltipRows(traces, x, range, pane.x.type === "log");
    if (!found.rows.length) return hide();
    fill(box, heading(x, axisName()), tableOf(found), found.hidden ? element("p", {}, `and ${found.hidden} more runs`) : null);
    placeRule(rule, node, pane, x);
    box.hidden = false;
    placeBox(box, clientX, clientY);
  };

  node.parentNode.append(rule);
  hide();
  node.addEventListener("mousemove", (event) => {
    const pane = event.buttons ? null : paneAt(node, event);
    if (!pane) return hide();
    showIn(pane, pane.x.p2d(pane.left), event.clientX, event.clientY);
  });
  node.addEventListener("mouseleave", hide);
  return {
    hide,
    /** At a share of the first pane's width, 0 to 1. */
    showAt(share) {
      const [pane] = panesOf(node);
      if (!pane) return;
      const bounds = node.getBoundingClientRect();
      const left = share * pane.x._length;
      showIn(pane, pane.x.p2d(left), bounds.left + pane.x._offset + left, bounds.top + pane.y._offset + pane.y._length / 3);
    },
  };
}

/** The drawn pairs of axes that hold lines. */
function panesOf(node) {
  const layout = node._fullLayout;
  if (!layout || !node.data) return [];
  const ids = new Set(node.data.filter((trace) => trace.meta && trace.meta.part === "value").map((trace) => trace.xaxis || "x"));
  return [...ids].map((id) => ({id, x: layout[id.replace("x", "xaxis")], y: layout[id.replace("x", "yaxis")]})).filter((pane) => pane.x && pane.y);
}

function paneAt(node, event) {
  const bounds = node.getBoundingClientRect();
  const [left, top] = [event.clientX - bounds.left, event.clientY - bounds.top];
  for (const pane of panesOf(node)) {
    const within = left >= pane.x._offset && left <= pane.x._offset + pane.x._length;
    if (within && top >= pane.y._offset && top <= pane.y._offset + pane.y._length) return {...pane, left: left - pane.x._offset};
  }
  return null;
}

function heading(x, axis) {
  const counted = ["updates", "examples"].includes(axis);
  return element("p", {}, `${X_TITLES[axis] || axis} ${number(counted ? Math.round(x) : x)}`);
}

/** "12.3", "12.3 [11, 14]" with a band, "12.3 ○" when it had not converged. */
function cellText(cell, withRange) {
  if (!cell) return "";
  const range = cell.range && withRange ? ` [${number(cell.range[0])}, ${number(cell.range[1])}]` : "";
  return `${number(cell.value)}${range}${cell.open ? " ○" : ""}`;
}

function tableOf({columns, rows}) {
  const head = element("tr", {}, element("th", {}), ...columns.map((column) => element("th", {}, column)));
  const body = rows.map((row) => {
    const swatch = element("span", {class: "swatch", style: `background:${row.colour}`});
    const name = element("td", {class: "name"}, swatch, cut(row.run, 40), row.far ? element("small", {}, ` at ${number(row.x)}`) : null);
    return element("tr", {}, name, ...columns.map((column) => element("td", {class: "value"}, cellText(row.cells[column], columns.length < 4))));
  });
  return element("table", {}, element("thead", {}, columns.length > 1 ? head : null), element("tbody", {}, ...body));
}

function placeRule(rule, node, pane, x) {
  rule.hidden = false;
  rule.style.left = `${pane.x._offset + pane.x.d2p(x) + node.offsetLeft}px`;
  rule.style.top = `${pane.y._offset + node.offsetTop}px`;
  rule.style.height = `${pane.y._length}px`;
}

function placeBox(box, x, y) {
  const {width, height} = box.getBoundingClientRect();
  const left = x + 16 + width > window.innerWidth - 8 ? x - 16 - width : x + 16;
  box.style.left = `${Math.max(8, left)}px`;
  box.style.top = `${Math.max(8, Math.min(y - 20, window.innerHeight - height - 8))}px`;
}
