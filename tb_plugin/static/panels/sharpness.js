// Sharpness evolution: any measure of sharpness, a line per run.

import {words} from "../format.js";
import {linesOf, notesOf, openTally, summaryOf, tracesOf} from "../lines.js";
import {loadLines, tagsOf} from "../load.js";
import {axesOf, pageAxis, paneLayout} from "../panes.js";

const SPECIAL = /^(schedule|generalization|progress)\//; // other panels show these

// What tells how certain a measure is comes as a tag of its own, named after it: a band, best known first.
const UNCERTAINTIES = ["_spread", "_standard_error", "_residual"];

function isUncertainty(tag, runs) {
  const ending = UNCERTAINTIES.find((end) => tag.endsWith(end));
  return Boolean(ending) && runs.some((run) => run.tags.some((other) => other.tag === tag.slice(0, -ending.length)));
}

/** The tag of the uncertainty of a measure, undefined if none was written. */
function uncertaintyOf(measure, runs) {
  return UNCERTAINTIES.map((end) => measure.tag + end).find((tag) => runs.some((run) => run.tags.some((other) => other.tag === tag)));
}

/** Measures: scalars that no other panel shows, and the largest of each row of eigenvalues. */
function measures(runs) {
  const found = tagsOf(runs, (tag) => (tag.kind === "scalar" ? !SPECIAL.test(tag.tag) && !isUncertainty(tag.tag, runs) : tag.kind === "eigenvalues"));
  const rank = (tag) => (tag.kind === "eigenvalues" ? 2 : tag.tag.startsWith("sharpness/") ? 0 : 1);
  return found.sort((a, b) => rank(a) - rank(b));
}

function measureOf(ask) {
  const known = measures(ask.runs);
  const usual = known.find((tag) => tag.tag === "sharpness/top_eigenvalue") || known[0];
  return known.find((tag) => tag.tag === ask.option.measure) || usual;
}

const nameOf = (tag) => (tag.kind === "eigenvalues" ? `${words(tag.tag)}: first` : words(tag.tag));

export const sharpness = {
  id: "sharpness",
  title: "Sharpness evolution",
  how: "Higher means that the loss rises faster around the weights; runs that end sharper often generalize worse.",
  unit: (ask) => (measureOf(ask) ? measureOf(ask).unit : ""),
  controls: [
    {key: "measure", label: "Measure", options: (ask) => measures(ask.runs).map((tag) => ({value: tag.tag, text: nameOf(tag)})), value: (ask) => (measureOf(ask) || {tag: ""}).tag},
    {key: "against", label: "Against", options: [{value: "", text: "page axis"}, {value: "train_loss", text: "training loss"}]},
    {key: "scale", label: "Scale", options: [{value: "log", text: "log"}, {value: "linear", text: "linear"}], initial: "log"},
  ],
  empty: {
    text: "No run here has a measure of sharpness. Measure while training, or write your own numbers:",
    code: ['lb.callbacks.CurvatureMonitor(sample, log_dir="runs/a")', 'tb_plugin.summary.scalar("sharpness/trace", value, step=step)'],
  },
  has: (run) => measures([run]).length > 0,
  tags(ask) {
    const measure = measureOf(ask);
    return measure ? [measure.tag, uncertaintyOf(measure, ask.runs)].filter(Boolean) : [];
  },
  axis: (ask) => ask.option.against || ask.x,
  load: (store, ask) => loadLines(store, {...ask, x: sharpness.axis(ask)}, sharpness.tags(ask)),

  figure(data, look) {
    const measure = measureOf({runs: data.runs, option: look.option});
    const logY = look.option.scale === "log";
    const x = look.option.against || look.x;
    const tally = openTally();
    const column = measure.kind === "eigenvalues" ? "value_1" : "value";
    const interval = {around: uncertaintyOf(measure, data.runs)};
    const lines = linesOf(data, look, {tag: measure.tag, column, x, logY, interval}, tally);
    const name = (interval.around || "").slice(measure.tag.length + 1).replace("_", " ");
    const style = {axes: axesOf(1), column: nameOf(measure), legend: true};
    const pane = {title: nameOf(measure), unit: measure.unit, x: pageAxis(look, x), y: {type: look.option.scale}};
    const traces = lines.flatMap((line) => tracesOf(line, style, look.smoothing));
    return {
      data: traces,
      layout: paneLayout([[pane]], look, {traces, height: 300}),
      notes: notesOf(tally),
      keys: lines.some((line) => line.low) ? [{mark: "band", text: look.seeds === "separate" ? `± ${name}` : "seeds"}] : [],
      summary: summaryOf(nameOf(measure), lines),
    };
  },
};
