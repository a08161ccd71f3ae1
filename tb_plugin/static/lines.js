// From series to lines: the x axis, smoothing, seeds and what cannot be drawn, the same for every panel.

import {clockOf} from "./data.js";
import {count, cut, number, plain, several} from "./format.js";
import {interpolate, meanLine} from "./seeds.js";
import {smooth} from "./smoothing.js";
import {faded} from "./theme.js";

const FEW = 40; // up to so many points, each gets a mark

/** What a figure could not draw, gathered over its lines and told below it. */
export function openTally() {
  return {nonfinite: 0, nonpositive: 0, withoutAxis: new Set(), axis: "", drawn: 0, written: 0};
}

/** The tally in sentences. */
export function notesOf(tally) {
  const notes = [];
  const hidden = tally.nonfinite + tally.nonpositive;
  const why = [];
  if (tally.nonfinite) why.push(`${count(tally.nonfinite)} NaN or infinite`);
  if (tally.nonpositive) why.push(`${count(tally.nonpositive)} not above 0 on a log axis`);
  if (hidden) notes.push(`${several(hidden, "point")} not shown (${why.join(", ")}).`);
  if (tally.withoutAxis.size) {
    const names = [...tally.withoutAxis].slice(0, 3).map((name) => cut(name)).join(", ");
    const more = tally.withoutAxis.size > 3 ? ` and ${tally.withoutAxis.size - 3} more` : "";
    notes.push(`No ${tally.axis} known for ${names}${more}.`);
  }
  if (tally.drawn < tally.written) {
    notes.push(`${count(tally.drawn)} of ${several(tally.written, "point")} drawn, peaks kept; zoom in for all.`);
  }
  return notes;
}

export function findSeries(data, run, tag) {
  return data.series.find((one) => one.run === run && one.tag === tag);
}

/**
 * The lines of one column of a tag: one a run, or one a group of seeds.
 *
 * `what` = {tag, column, x, logY, interval: {low, high} or {around}: tags of its ends or half width}. A line is {name, colour,
 * x, y, raw, low, high, lost}: `raw` are the values before smoothing, `low` and `high` a band, `lost` the
 * places where a value was NaN or infinite.
 */
export function linesOf(data, look, what, tally) {
  const lines = data.runs.flatMap((run) => {
    const one = findSeries(data, run.run, what.tag);
    const at = one ? one.columns.indexOf(column(what)) : -1;
    return at < 0 ? [] : [lineOf(data, run, one, one.values[at], look, what, tally)];
  });
  const known = lines.filter((line) => line !== null);
  return look.seeds === "separate" ? known : bySeeds(known, look, what);
}

function lineOf(data, run, one, values, look, what, tally) {
  const axis = what.x || look.x;
  const x = one.x[axis];
  if (!x || !x.some(Number.isFinite)) {
    tally.withoutAxis.add(run.run);
    tally.axis = axis.replace("_", " ");
    return null;
  }
  const smoothed = smooth(values, look.smoothing);
  const fits = (value, log) => Number.isFinite(value) && (!log || value > 0);
  const shown = values.map((value, i) => fits(value, what.logY) && fits(x[i], look.xscale === "log"));
  tallyLine(tally, one, column(what), values, shown);
  const keep = (list) => list.map((value, i) => (shown[i] ? value : null));
  const line = {name: run.run, group: run.group, colour: run.colour, x, y: keep(smoothed), raw: keep(values)};
  line.lost = [...values.keys()].filter((i) => isLost(one, column(what), values[i]));
  if (what.interval) addInterval(line, data, one, what.interval);
  // On a log axis a band that reaches 0 ends at a value that is there.
  if (line.low && what.logY) line.low = line.low.map((value, i) => (value > 0 ? value : line.y[i] / 100));
  return line;
}

function column(what) {
  return what.column || "value";
}

/** Rows of few eigenvalues are padded by NaN to the length of the others: only a lost first one is a loss. */
function isLost(one, name, value) {
  if (Number.isFinite(value)) return false;
  return one.kind === "scalar" || name === "value_1" || !Number.isNaN(value);
}

function tallyLine(tally, one, name, values, shown) {
  const lost = values.filter((value) => isLost(one, name, value)).length;
  tally.nonfinite += lost;
  tally.nonpositive += values.filter((value, i) => Number.isFinite(value) && !shown[i]).length;
  tally.drawn += values.length;
  tally.written += Math.max(one.num_points || 0, values.length);
}

function addInterval(line, data, one, interval) {
  const at = (tag) => {
    const other = tag && findSeries(data, one.run, tag);
    return other && interpolate({x: clockOf(other), y: other.values[0]}, clockOf(one));
  };
  if (interval.around) {
    const half = at(interval.around);
    if (half) [line.low, line.high] = [-1, 1].map((sign) => line.y.map((value, i) => (value === null ? NaN : value + sign * half[i])));
  } else {
    const [low, high] = [at(interval.low), at(interval.high)];
    if (low && high) Object.assign(line, {low, high});
  }
}

function bySeeds(lines, look, what) {
  const groups = new Map();
  for (const line of lines) groups.set(line.group, [...(groups.get(line.group) || []), line]);
  return [...groups].map(([group, members]) => {
    if (members.length === 1) return members[0];
    const {x, mean, low, high} = meanLine(members.map(increasing), look.seeds);
    const positive = (list) => (what.logY ? list.map((value) => (value > 0 ? value : null)) : list);
    const name = `${group} (${members.length} seeds)`;
    return {name, group, colour: members[0].colour, x, y: mean, low: positive(low), high, lost: []};
  });
}

/** A line against training loss goes to and fro: for a mean it is read as a function. */
function increasing({x, y}) {
  const order = [...x.keys()].sort((a, b) => x[a] - x[b]);
  return {x: order.map((i) => x[i]), y: order.map((i) => (y[i] === null ? NaN : y[i]))};
}

/**
 * Plotly traces of a line. `style` = {axes: {xaxis, yaxis}, column: its name in the tooltip, dash, width,
 * alpha, shape, legend: whether the line stands for its run in an exported figure's legend}.
 */
export function tracesOf(line, style, smoothing = 0) {
  const alpha = style.alpha ?? 1;
  const common = {type: "scatter", ...style.axes, hoverinfo: "skip", showlegend: false, legendgroup: line.name, x: line.x};
  const ink = {color: faded(line.colour, alpha), width: style.width ?? 1.75, dash: style.dash || "solid", shape: style.shape || "linear"};
  const traces = [];
  if (line.low) traces.push(...bandOf(line, common));
  if (smoothing > 0 && line.raw) {
    const faint = {...ink, color: faded(line.colour, 0.22 * alpha), width: 1, dash: "solid"};
    traces.push({...common, y: line.raw, mode: "lines", line: faint, meta: {part: "raw", run: line.name}});
  }
  const few = line.x.length <= FEW;
  traces.push({
    ...common, y: line.y, name: plain(cut(line.name, 60)), mode: few ? "lines+markers" : "lines", line: ink,
    marker: {size: 4, color: ink.color}, showlegend: Boolean(style.legend), connectgaps: false,
    meta: {part: "value", run: line.name, column: style.column, colour: line.colour, low: line.low, high: line.high, open: line.open},
  });
  if (line.lost && line.lost.length) traces.push(lostMarks(line, common));
  return traces;
}

function bandOf(line, common) {
  const inside = [...line.x.keys()].filter((i) => Number.isFinite(line.low[i]) && line.low[i] !== null && Number.isFinite(line.high[i]));
  const edge = {...common, x: inside.map((i) => line.x[i]), mode: "lines", line: {width: 0, color: faded(line.colour, 0)}};
  return [
    {...edge, y: inside.map((i) => line.low[i]), meta: {part: "low", run: line.name}},
    {...edge, y: inside.map((i) => line.high[i]), fill: "tonexty", fillcolor: faded(line.colour, 0.16), meta: {part: "high", run: line.name}},
  ];
}

/** Crosses at the last value before one that is NaN or infinite, so that a run that diverged does not just end. */
function lostMarks(line, common) {
  const known = (i) => {
    let j = i;
    while (j >= 0 && (line.y[j] === null || !Number.isFinite(line.y[j]))) j -= 1;
    return j >= 0 ? line.y[j] : line.y.find((value) => value !== null && Number.isFinite(value));
  };
  const marker = {symbol: "x-thin", size: 7, color: line.colour, line: {width: 1.5, color: line.colour}};
  const places = line.lost.map((i) => [line.x[i], known(i)]).filter(([, y]) => y !== undefined);
  return {...common, x: places.map(([x]) => x), y: places.map(([, y]) => y), mode: "markers", marker, meta: {part: "lost", run: line.name}};
}

/** What a screen reader hears of a figure: how many lines, and where the first ones end. */
export function summaryOf(title, lines) {
  const ends = lines.slice(0, 5).map((line) => {
    const known = line.y.filter((value) => value !== null && Number.isFinite(value));
    return `${cut(line.name)} ends at ${number(known[known.length - 1])}`;
  });
  return `${title}: ${several(lines.length, "line")}. ${ends.join("; ")}`;
}
