// Generalization gap: loss and accuracy on training and test data, and their difference.

import {clockOf} from "../data.js";
import {linesOf, notesOf, openTally, summaryOf, tracesOf} from "../lines.js";
import {loadLines} from "../load.js";
import {interpolate} from "../seeds.js";
import {axesOf, inRows, pageAxis, paneLayout} from "../panes.js";

const QUANTITIES = [
  {name: "loss", title: "Loss", unit: "", gap: "Gap in loss", gapUnit: "test − train", sign: 1},
  {name: "accuracy", title: "Accuracy", unit: "share", gap: "Gap in accuracy", gapUnit: "train − test", sign: -1},
];
const TAGS = ["loss", "accuracy"].flatMap((name) => [`generalization/train_${name}`, `generalization/test_${name}`]);

/** Test minus train (or train minus test) of a run as a series of its own, at the moments of the test. */
function differences(data, {name, sign}) {
  return data.runs.flatMap((run) => {
    const find = (side) => data.series.find((one) => one.run === run.run && one.tag === `generalization/${side}_${name}`);
    const [train, test] = [find("train"), find("test")];
    if (!train || !test) return [];
    const other = interpolate({x: clockOf(train), y: train.values[0]}, clockOf(test));
    const values = [test.values[0].map((value, i) => sign * (value - other[i]))];
    // What cannot be compared (no training value around) is left out; NaN was told of already.
    const known = [...values[0].keys()].filter((i) => Number.isFinite(values[0][i]));
    const pick = (list) => list && known.map((i) => list[i]);
    const x = Object.fromEntries(Object.entries(test.x).map(([axis, list]) => [axis, pick(list)]));
    return [{run: run.run, tag: `gap/${name}`, kind: "scalar", columns: ["value"], x, values: values.map(pick), num_points: known.length, hidden: 0}];
  });
}

/** The two panes of a quantity: train and test, and their gap. */
function panesOf(quantity, data, look) {
  const has = (side) => data.series.some((one) => one.tag === `generalization/${side}_${quantity.name}`);
  if (!has("train") && !has("test")) return [];
  const logY = look.option.scale === "log" && quantity.name === "loss";
  const both = {title: quantity.title, unit: quantity.unit, y: {type: logY ? "log" : "linear"}, parts: [
    {tag: `generalization/train_${quantity.name}`, name: "train", dash: "dash", logY},
    {tag: `generalization/test_${quantity.name}`, name: "test", dash: "solid", logY},
  ]};
  const gap = {title: quantity.gap, unit: quantity.gapUnit, y: {type: "linear"}, parts: [{tag: `gap/${quantity.name}`, name: "gap", dash: "solid"}]};
  return has("train") && has("test") ? [both, gap] : [both];
}

export const gap = {
  id: "gap",
  title: "Generalization gap",
  how: "The gap is what training gains and unseen data does not; compare runs at equal training loss.",
  unit: () => "",
  controls: [{key: "scale", label: "Loss", options: [{value: "linear", text: "linear"}, {value: "log", text: "log"}], initial: "linear"}],
  empty: {
    text: "No run here has training and test results. Keras' own callback writes them, or write your own numbers:",
    code: ['lb.callbacks.RunSummary("runs/a")', 'keras.callbacks.TensorBoard("runs/a")', 'tb_plugin.summary.scalar("generalization/test_loss", value, step=step)'],
  },
  has: (run) => run.tags.some((tag) => TAGS.includes(tag.tag)),
  tags: () => TAGS,
  axis: (ask) => ask.x,
  load: (store, ask) => loadLines(store, ask, TAGS),

  figure(data, look) {
    const tally = openTally();
    const full = {...data, series: [...data.series, ...QUANTITIES.flatMap((quantity) => differences(data, quantity))]};
    const panes = QUANTITIES.flatMap((quantity) => panesOf(quantity, full, look));
    const summaries = [];
    const traces = panes.flatMap((pane, i) => pane.parts.flatMap((part) => {
      const lines = linesOf(full, look, part, part.name === "gap" ? openTally() : tally);
      if (part.name !== "train") summaries.push(summaryOf(pane.title, lines));
      const style = {axes: axesOf(i + 1), column: part.name, dash: part.dash, legend: i === 0 && part.name === "test", width: part.name === "train" ? 1.25 : 1.75};
      return lines.flatMap((line) => tracesOf(line, style, look.smoothing));
    }));
    const withAxes = panes.map((pane) => ({...pane, share: "x", x: pageAxis(look)}));
    return {
      data: traces,
      layout: paneLayout(inRows(withAxes, look.width < 560 ? 1 : 2), look, {traces, height: 150}),
      notes: notesOf(tally),
      keys: [{line: "solid", text: "test"}, {line: "dash", text: "train"}],
      summary: summaries.join(". "),
    };
  },
};
