// Eigenvalue histories: the ends of the Hessian's spectrum while training, and how far training may go.
//
// Plain gradient descent with rate lr is stable along a direction whose eigenvalue is below 2 / lr
// (Cohen et al., "Gradient descent on neural networks typically occurs at the edge of stability", 2021):
// that line is dotted, and moves when the rate does.

import {linesOf, notesOf, openTally, summaryOf, tracesOf} from "../lines.js";
import {loadLines, tagsOf} from "../load.js";
import {axesOf, pageAxis, paneLayout} from "../panes.js";
import {faded, inks} from "../theme.js";

const EDGE = "sharpness/edge_of_stability";
const MOST_MARKS = 900; // hollow ones, in all
const ALPHA = [1, 0.72, 0.55, 0.43, 0.34]; // of the first, second, ... line

const isEigenvalues = (tag) => tag.kind === "eigenvalues";
const folder = (tag) => tag.split("/").slice(0, -1).join("/");

/** The tags to choose from: all but those of the bottom, which come with their top. */
function choices(runs) {
  const all = tagsOf(runs, isEigenvalues);
  const tops = all.filter((tag) => tag.which !== "smallest");
  return tops.length ? tops : all;
}

function topOf(ask) {
  const known = choices(ask.runs);
  return known.find((tag) => tag.tag === ask.option.tag) || known[0];
}

function bottomOf(ask) {
  const top = topOf(ask);
  const fits = (tag) => isEigenvalues(tag) && tag.which === "smallest" && top && tag.tag !== top.tag && folder(tag.tag) === folder(top.tag);
  return ask.option.bottom === "hide" ? undefined : tagsOf(ask.runs, fits)[0];
}

/** Columns value_1, value_2, ... that the runs have of a tag, at most `most`. */
function columnsOf(data, tag, most) {
  const widths = data.series.filter((one) => one.tag === tag).map((one) => one.columns.filter((name) => name.startsWith("value_")).length);
  return Array.from({length: Math.min(most, Math.max(0, ...widths))}, (_, i) => `value_${i + 1}`);
}

/** Says of each point of a line whether its value had not converged: a bound, then, and no measurement. */
function withOpen(line, data, tag, column) {
  const one = data.series.find((other) => other.run === line.name && other.tag === tag);
  const at = one ? one.columns.indexOf(column.replace("value", "converged")) : -1;
  return at < 0 ? line : {...line, open: one.values[at].map((flag) => flag === 0)};
}

/**
 * Hollow marks at the values of a line that had not converged. Each mark is an element on the page, and there may be
 * tens of thousands: where they are crowded, every n-th is shown. The tooltip marks all.
 */
function hollow(line, style, look, most) {
  const [low, high] = look.zoom && look.zoom.xaxis ? look.zoom.xaxis : [-Infinity, Infinity];
  const inView = (i) => line.x[i] >= low && line.x[i] <= high;
  const open = [...line.x.keys()].filter((i) => line.open && line.open[i] && line.y[i] !== null && inView(i));
  const shown = open.filter((_, i) => i % Math.ceil(open.length / most) === 0);
  if (!shown.length) return [];
  const outline = {width: 1, color: faded(line.colour, style.alpha)};
  return [{
    type: "scatter", mode: "markers", ...style.axes, x: shown.map((i) => line.x[i]), y: shown.map((i) => line.y[i]),
    marker: {symbol: "circle", size: 5, color: inks(look.dark).paper, line: outline}, hoverinfo: "skip", showlegend: false,
    legendgroup: line.name, meta: {part: "unconverged", run: line.name},
  }];
}

/** The lines of one tag, first to last, with their hollow marks. */
function bundle(data, look, tag, most, dash, tally) {
  const logY = look.option.scale === "log";
  const columns = columnsOf(data, tag.tag, most);
  const marksPerLine = Math.max(4, Math.floor(MOST_MARKS / (columns.length * data.runs.length)));
  const ranks = columns.map((column, i) => {
    const name = tag.which === "smallest" ? `λ min ${i + 1}` : `λ ${i + 1}`;
    const alpha = ALPHA[i] ?? ALPHA[ALPHA.length - 1];
    const style = {axes: axesOf(1), column: name, alpha, width: i || dash !== "solid" ? 1.25 : 1.75, dash, legend: i === 0 && dash === "solid"};
    const lines = linesOf(data, look, {tag: tag.tag, column, logY}, tally).map((line) => withOpen(line, data, tag.tag, column));
    const traces = lines.flatMap((line) => tracesOf(line, style, i ? 0 : look.smoothing));
    const marks = look.seeds === "separate" ? lines.flatMap((line) => hollow(line, style, look, marksPerLine)) : [];
    return {lines, traces: [...traces, ...marks]};
  });
  return {traces: ranks.flatMap((rank) => rank.traces), first: ranks.length ? ranks[0].lines : []};
}

function edge(data, look, tally) {
  const calm = {...look, smoothing: 0}; // a threshold is not smoothed
  const lines = linesOf(data, calm, {tag: EDGE, logY: look.option.scale === "log"}, tally).map((line) => ({...line, low: undefined}));
  const style = {axes: axesOf(1), column: "2 / rate", dash: "dot", width: 1.5, alpha: 0.9};
  return lines.flatMap((line) => tracesOf(line, style));
}

export const eigenvalues = {
  id: "eigenvalues",
  title: "Eigenvalue histories",
  how: "When the top line rides on the dotted one, training is at the edge of stability: sharpness is held by the learning rate.",
  unit: (ask) => (topOf(ask) ? topOf(ask).unit : ""),
  controls: [
    {key: "tag", label: "Matrix", options: (ask) => choices(ask.runs).map((tag) => ({value: tag.tag, text: tag.tag})), value: (ask) => (topOf(ask) || {tag: ""}).tag, hideSingle: true},
    {key: "top", label: "Top", options: [{value: "", text: "all"}, {value: "1", text: "1"}, {value: "3", text: "3"}, {value: "5", text: "5"}]},
    {key: "bottom", label: "Bottom", options: [{value: "", text: "show"}, {value: "hide", text: "hide"}]},
    {key: "scale", label: "Scale", options: [{value: "linear", text: "linear"}, {value: "log", text: "log"}], initial: "linear"},
  ],
  empty: {
    text: "No run here has eigenvalues. Measure while training, or write your own numbers:",
    code: ['lb.callbacks.CurvatureMonitor(sample, k=5, log_dir="runs/a")', 'tb_plugin.summary.eigenvalues("curvature/eigenvalues", values, step=step)'],
  },
  has: (run) => run.tags.some(isEigenvalues),
  tags: (ask) => [topOf(ask), bottomOf(ask), {tag: EDGE}].filter(Boolean).map((tag) => tag.tag),
  axis: (ask) => ask.x,
  load: (store, ask) => loadLines(store, ask, eigenvalues.tags(ask)),

  figure(data, look) {
    const ask = {runs: data.runs, option: look.option};
    const [top, bottom] = [topOf(ask), bottomOf(ask)];
    const tally = openTally();
    const most = Number(look.option.top) || 64;
    const above = bundle(data, look, top, most, "solid", tally);
    const below = bottom ? bundle(data, look, bottom, most, "dash", tally) : {traces: []};
    const pane = {title: "Eigenvalue", unit: top.unit, x: pageAxis(look), y: {type: look.option.scale}};
    const traces = [...edge(data, look, tally), ...below.traces, ...above.traces];
    return {
      data: traces,
      layout: paneLayout([[pane]], look, {traces, height: 300}),
      notes: notesOf(tally),
      keys: [
        {line: "solid", text: "top, paler for lower ranks"},
        ...(bottom ? [{line: "dash", text: "bottom"}] : []),
        {line: "dot", text: "edge of stability, 2 / rate"},
        {mark: "hollow", text: "not converged"},
      ],
      summary: summaryOf("Largest eigenvalue", above.first),
    };
  },
};
