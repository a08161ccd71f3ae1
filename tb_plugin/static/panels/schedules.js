// Schedules: what was set while training, and the gradient noise scale that says what could have been.

import {linesOf, notesOf, openTally, summaryOf, tracesOf} from "../lines.js";
import {loadLines} from "../load.js";
import {axesOf, inRows, pageAxis, paneLayout} from "../panes.js";

// Batches and rates hold until they are changed: steps, not slopes.
const PANES = [
  {tag: "schedule/batch_size", title: "Batch size", unit: "examples", shape: "hv"},
  {tag: "schedule/learning_rate", title: "Learning rate", unit: "", shape: "hv"},
  {tag: "schedule/noise_scale", title: "Noise scale of the schedule", unit: "lr (N/B − 1)", shape: "hv"},
  {tag: "schedule/gradient_noise_scale", title: "Gradient noise scale", unit: "examples", shape: "linear"},
];
const INTERVAL = {low: "schedule/gradient_noise_scale_low", high: "schedule/gradient_noise_scale_high"};

export const schedules = {
  id: "schedules",
  title: "Schedules",
  how: "A batch well below the gradient noise scale wastes little data; well above it, examples are averaged that say the same.",
  unit: () => "",
  controls: [{key: "scale", label: "Scale", options: [{value: "log", text: "log"}, {value: "linear", text: "linear"}], initial: "log"}],
  empty: {
    text: "No run here has written a schedule. Train with one of these callbacks, or write your own numbers:",
    code: [
      'lb.callbacks.RunSummary("runs/a")',
      'lb.callbacks.GradientNoiseMonitor(batches, log_dir="runs/a")',
      'tb_plugin.summary.scalar("schedule/batch_size", batch_size, step=step)',
    ],
  },
  has: (run) => run.tags.some((tag) => PANES.some((pane) => pane.tag === tag.tag)),
  tags: () => [...PANES.map((pane) => pane.tag), INTERVAL.low, INTERVAL.high],
  axis: (ask) => ask.x,
  load: (store, ask) => loadLines(store, ask, schedules.tags()),

  figure(data, look) {
    const logY = look.option.scale === "log";
    const tally = openTally();
    const shown = PANES.filter((pane) => data.series.some((one) => one.tag === pane.tag));
    const lines = shown.map((pane) => {
      const interval = pane.tag === "schedule/gradient_noise_scale" ? INTERVAL : undefined;
      return linesOf(data, look, {tag: pane.tag, logY, interval}, tally);
    });
    const traces = lines.flatMap((some, i) => {
      const {title, shape} = shown[i];
      const style = {axes: axesOf(i + 1), column: title, shape, legend: i === 0};
      return some.flatMap((line) => tracesOf(line, style, look.smoothing));
    });
    const panes = shown.map((pane) => ({...pane, share: "x", x: pageAxis(look), y: {type: look.option.scale}}));
    return {
      data: traces,
      layout: paneLayout(inRows(panes, look.width < 560 ? 1 : 2), look, {traces, height: 150}),
      notes: notesOf(tally),
      keys: lines.some((some) => some.some((line) => line.low)) ? [{mark: "band", text: "interval, or range of seeds"}] : [],
      summary: shown.map((pane, i) => summaryOf(pane.title, lines[i])).join(". "),
    };
  },
};
