// One Plotly layout for all panels: rows of panes, each with a title and its unit above its y axis. Sizes
// are in pixels here and in shares of the figure in Plotly, so that text never meets text at any width.

import {plain} from "./format.js";
import {extentOf, logTicks} from "./logticks.js";
import {FONT, inks} from "./theme.js";

const MARGIN = {l: 50, r: 18, t: 30, b: 42};
const GAP_X = 68; // room for tick labels
const GAP_Y = 76; // room for an x axis with its title, and the title of the pane below
export const X_TITLES = {
  updates: "updates", epochs: "epochs", examples: "examples seen", seconds: "seconds since start", train_loss: "training loss",
};

/** Cuts a list of panes into rows of `columns`. */
export function inRows(list, columns) {
  const rows = [];
  for (let i = 0; i < list.length; i += columns) rows.push(list.slice(i, i + columns));
  return rows;
}

/**
 * The layout of rows of panes `{title, unit, x: {title, type, ...}, y: {type, ...}, share}`. Panes with the
 * same `share` zoom along x together. The n-th pane's axes are xn, yn ("x", "y" for the first). `traces` are what
 * will be drawn, for the ticks of log axes.
 */
export function paneLayout(rows, look, {traces = [], height = 240, right = 0} = {}) {
  const ink = inks(look.dark);
  const inner = {w: look.width - MARGIN.l - MARGIN.r - right, h: rows.length * height + (rows.length - 1) * GAP_Y};
  const layout = baseLayout(look, inner.h + MARGIN.t + MARGIN.b, right);
  const sharing = {};
  let n = 0;
  rows.forEach((row, i) => {
    const width = (inner.w - (row.length - 1) * GAP_X) / row.length;
    const bottom = (rows.length - 1 - i) * (height + GAP_Y);
    row.forEach((pane, j) => {
      n += 1;
      const suffix = n === 1 ? "" : String(n);
      const left = j * (width + GAP_X);
      const domain = {x: [left / inner.w, (left + width) / inner.w], y: [bottom / inner.h, (bottom + height) / inner.h]};
      layout[`xaxis${suffix}`] = axis(ink, {...pane.x, domain: domain.x, anchor: `y${suffix}`});
      layout[`yaxis${suffix}`] = axis(ink, {...pane.y, domain: domain.y, anchor: `x${suffix}`});
      if (pane.share && sharing[pane.share]) layout[`xaxis${suffix}`].matches = sharing[pane.share];
      else if (pane.share) sharing[pane.share] = `x${suffix}`;
      layout.annotations.push(paneTitle(pane, domain, ink));
    });
  });
  fitX(layout, traces);
  applyZoom(layout, look.zoom || {});
  writeTicks(layout, traces);
  return layout;
}

function baseLayout(look, height, right) {
  const ink = inks(look.dark);
  return {
    width: look.width, height, margin: {...MARGIN, r: MARGIN.r + right},
    paper_bgcolor: ink.paper, plot_bgcolor: ink.paper,
    font: {family: FONT, size: 12, color: ink.soft},
    hovermode: "closest", hoverlabel: {font: {family: FONT, size: 12}},
    dragmode: "zoom", showlegend: false, annotations: [],
  };
}

function axis(ink, given) {
  const title = given.title ? {text: plain(given.title), standoff: 8, font: {size: 12, color: ink.soft}} : undefined;
  return {
    gridcolor: ink.grid, linecolor: ink.axis, tickcolor: ink.axis, zeroline: false, showline: true, ticks: "outside",
    ticklen: 3, tickfont: {size: 11}, automargin: false, nticks: 7,
    exponentformat: "power", separatethousands: true, ...given, title,
  };
}

function paneTitle(pane, domain, ink) {
  const unit = pane.unit ? ` <span style="font-weight:400;color:${ink.soft}">${plain(pane.unit)}</span>` : "";
  return {
    text: `<span style="font-weight:500">${plain(pane.title)}</span>${unit}`, showarrow: false, xref: "paper", yref: "paper",
    x: domain.x[0], y: domain.y[1], xanchor: "left", yanchor: "bottom", yshift: 7, font: {size: 12, color: ink.text},
  };
}

/** Time axes end where the data do: Plotly would leave room for marks. Axes that zoom together share their ends. */
function fitX(layout, traces) {
  const names = Object.keys(layout).filter((name) => /^xaxis/.test(name) && layout[name].fit);
  const leader = (name) => layout[name].matches || name.replace("axis", "");
  for (const name of names) {
    const {fit, type} = layout[name];
    delete layout[name].fit;
    const ends = names.filter((other) => leader(other) === leader(name)).map((other) => extentOf(traces, other, type === "log"));
    const known = ends.filter(Boolean).flat();
    if (!known.length) continue;
    const scaled = [Math.min(...known), Math.max(...known)].map((end) => (type === "log" ? Math.log10(end) : end));
    const pad = 0.01 * (scaled[1] - scaled[0]) || 0.5;
    const range = [scaled[0] - pad, scaled[1] + pad];
    layout[name].range = fit === "reversed" ? range.reverse() : range;
  }
}

/** Ranges chosen by the reader, `{xaxis: [low, high], ...}` in data units. */
function applyZoom(layout, zoom) {
  for (const [name, range] of Object.entries(zoom)) {
    if (!layout[name]) continue;
    layout[name].range = layout[name].type === "log" ? range.map((value) => Math.log10(Math.max(value, 1e-300))) : range;
    layout[name].autorange = false;
  }
}

/** Numbers at the ticks in full as long as they are short; round ones on log axes. */
function writeTicks(layout, traces) {
  for (const [name, axis] of Object.entries(layout)) {
    if (!/^[xy]axis/.test(name) || axis.tickvals) continue;
    const found = extentOf(traces, name, axis.type === "log");
    if (!found) continue;
    const largest = Math.max(...found.map(Math.abs));
    if (axis.type === "log") spreadLog(axis, found);
    else if (largest >= 0.01 && largest < 1e7) axis.exponentformat = "none";
  }
}

function spreadLog(axis, [low, high]) {
  // One value, or nearly: Plotly would show a hundredth of a decade.
  if (!axis.range && high / low < 1.5) axis.range = [Math.log10(low / 2), Math.log10(high * 2)];
  const [from, to] = axis.range ? axis.range.map((power) => 10 ** power).sort((a, b) => a - b) : [low / 1.1, high * 1.1];
  Object.assign(axis, logTicks(from, to));
}

/** The names of the n-th pane's axes in a trace. */
export function axesOf(n) {
  return n === 1 ? {xaxis: "x", yaxis: "y"} : {xaxis: `x${n}`, yaxis: `y${n}`};
}

/** The x axis that the reader chose for the page. */
export function pageAxis(look, x = look.x) {
  // Loss falls while training: turned round, time goes to the right as on the other axes.
  return {title: X_TITLES[x], type: look.xscale, fit: x === "train_loss" ? "reversed" : "data"};
}
