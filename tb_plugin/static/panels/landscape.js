// Landscape: the loss on a line through the weights, and on a plane with the way that training took.

import {cut, number, plain} from "../format.js";
import {tagsOf} from "../load.js";
import {momentControl, sideControls, sidesOf, stepAt} from "../moments.js";
import {axesOf, inRows, paneLayout} from "../panes.js";
import {faded, inks} from "../theme.js";

const isKind = (kind) => (tag) => tag.kind === kind;
const hasPlane = (run) => run.tags.some(isKind("plane"));
const MOST_LINES = 24; // frames come one by one

const tagOf = (ask, kind) => {
  const known = tagsOf(ask.runs, isKind(kind));
  return (known.find((tag) => tag.tag === ask.option[kind]) || known[0] || {}).tag;
};

async function* load(store, ask) {
  const [line, plane, trajectory] = ["line", "plane", "trajectory"].map((kind) => tagOf(ask, kind));
  const sides = sidesOf(ask, hasPlane);
  const moments = await store.frames(ask.runs, [line, plane].filter(Boolean), ask.signal);
  const errors = [...(moments.errors || [])];
  const get = async (run, tag, timed) => {
    const frame = moments.frames.find((one) => one.run === run.run && one.tag === tag);
    if ((timed && !frame) || !run.tags.some((one) => one.tag === tag)) return null;
    try {
      return await store.frame(run, tag, timed ? stepAt(frame, ask.x, ask.option.moment) : null, ask.signal);
    } catch (problem) {
      if (problem.name === "AbortError") throw problem;
      errors.push({run: run.run, tag, message: problem.message});
      return null;
    }
  };
  const lines = Promise.all(ask.runs.slice(0, MOST_LINES).map(async (run) => ({run, frame: await get(run, line, true)})));
  const planes = Promise.all(sides.map(async (run) => ({run, frame: await get(run, plane, true), way: await get(run, trajectory, false)})));
  const found = {lines: (await lines).filter((one) => one.frame), planes: (await planes).filter((one) => one.frame)};
  yield {runs: ask.runs, ...found, frames: moments.frames, cut: Math.max(0, ask.runs.length - MOST_LINES), errors};
}

/** Train (dashed) and test (solid) loss, or accuracy, of each run along the line. */
function lineTraces(lines, quantity, n, logY) {
  return lines.flatMap(({run, frame}) => ["train", "test"].flatMap((side) => {
    const values = frame[`${side}_${quantity}`];
    if (!values) return [];
    const line = {color: run.colour, width: side === "test" ? 1.75 : 1.25, dash: side === "test" ? "solid" : "dash"};
    return [{
      type: "scatter", mode: "lines", ...axesOf(n), x: frame.alpha, y: values.map((value) => (Number.isFinite(value) && (!logY || value > 0) ? value : null)), line,
      name: plain(cut(run.run)), hoverinfo: "skip", showlegend: side === "test" && n === 1, legendgroup: run.run,
      meta: {part: "value", run: run.run, column: side, colour: run.colour},
    }];
  }));
}

function contour({frame, run}, n, log) {
  const height = (value) => (!Number.isFinite(value) || (log && value <= 0) ? null : log ? Math.log10(value) : value);
  return {
    type: "contour", ...axesOf(n), x: frame.a, y: frame.b, z: frame.loss.map((row) => row.map(height)), coloraxis: "coloraxis",
    ncontours: 18, contours: {coloring: "fill"}, line: {width: 0.5, color: faded("#808080", 0.55)},
    text: frame.loss.map((row) => row.map(number)), hovertemplate: "loss %{text}<extra></extra>", meta: {part: "plane", run: run.run},
  };
}

function way({way: taken, run}, n, look) {
  const colour = inks(look.dark).accent;
  const [x, y] = [0, 1].map((axis) => taken.points.map((point) => point[axis]));
  const common = {type: "scatter", ...axesOf(n), hoverinfo: "skip", showlegend: false};
  return [
    {...common, x, y, mode: "lines", line: {color: colour, width: 1.75}, meta: {part: "trajectory", run: run.run}},
    {...common, x: x.slice(-1), y: y.slice(-1), mode: "markers", marker: {size: 8, color: colour, line: {width: 1.5, color: "#fff"}}, meta: {part: "end", run: run.run}},
  ];
}

function planePane({run, frame, way: taken}, n) {
  const percent = (share) => (Number.isFinite(share) ? ` (${number(100 * share)} % of the way)` : "");
  const explained = taken && taken.explained ? taken.explained : [];
  return {
    title: cut(run.run, 36), unit: `loss, update ${number(frame.step)}`,
    x: {title: `a${percent(explained[0])}`, type: "linear", constrain: "domain"},
    y: {title: `b${percent(explained[1])}`, type: "linear", scaleanchor: axesOf(n).xaxis, constrain: "domain", constraintoward: "top"},
  };
}

/** The panes of the lines: loss, and accuracy where it was measured. */
function linePanes(data, look) {
  const quantities = ["loss", "accuracy"].filter((name) => data.lines.some(({frame}) => frame[`train_${name}`] || frame[`test_${name}`]));
  return quantities.map((name) => ({
    name, title: name === "loss" ? "Loss along the line" : "Accuracy along the line", unit: name === "loss" ? "" : "share",
    x: {title: "α, distance along the direction", type: "linear"}, y: {type: name === "loss" ? look.option.scale : "linear"},
  }));
}

export const landscape = {
  id: "landscape",
  title: "Landscape",
  how: "A wide valley keeps its loss when the weights move; the orange way shows how training came to its end, the dot.",
  unit: () => "loss",
  wide: true,
  controls: [
    {key: "scale", label: "Scale", options: [{value: "log", text: "log"}, {value: "linear", text: "linear"}], initial: "log"},
    {key: "line", label: "Line", options: (ask) => tagsOf(ask.runs, isKind("line")).map((tag) => ({value: tag.tag, text: tag.tag})), value: (ask) => tagOf(ask, "line"), hideSingle: true},
    {key: "plane", label: "Plane", options: (ask) => tagsOf(ask.runs, isKind("plane")).map((tag) => ({value: tag.tag, text: tag.tag})), value: (ask) => tagOf(ask, "plane"), hideSingle: true},
    ...sideControls(hasPlane),
    momentControl,
  ],
  empty: {
    text: "No run here has a landscape. Compute one after training and write it:",
    code: ['tb_plugin.summary.line("landscape/line", alpha, step=step, train_loss=losses)', 'tb_plugin.summary.plane("landscape/plane", a, b, loss, step=step)'],
  },
  has: (run) => run.tags.some((tag) => ["line", "plane"].includes(tag.kind)),
  tags: (ask) => ["line", "plane", "trajectory"].map((kind) => tagOf(ask, kind)).filter(Boolean),
  load,

  figure(data, look) {
    const log = look.option.scale === "log";
    const lines = linePanes(data, look);
    const first = lines.length + 1;
    const planes = data.planes.map((plane, i) => planePane(plane, first + i));
    const traces = [
      ...lines.flatMap((pane, i) => lineTraces(data.lines, pane.name, i + 1, log && pane.name === "loss")),
      ...data.planes.flatMap((plane, i) => [contour(plane, first + i, log), ...(plane.way ? way(plane, first + i, look) : [])]),
    ];
    const columns = look.width < 560 ? 1 : 2;
    const oneRow = look.width > 1100;
    const rows = oneRow ? [[...lines, ...planes]] : [...inRows(lines, columns), ...inRows(planes, columns)];
    const layout = paneLayout(rows, look, {traces, height: 240, right: planes.length ? 56 : 0});
    layout.coloraxis = lossScale(look, log, planes.length ? (oneRow ? 1 : inRows(planes, columns).length / rows.length) : 1);
    return {
      data: traces,
      layout,
      notes: data.cut ? [`Lines of the first ${MOST_LINES} runs; untick runs to see others.`] : [],
      keys: lines.length ? [{line: "solid", text: "test"}, {line: "dash", text: "train"}] : [],
      summary: `Loss along a line for ${data.lines.length} runs, loss on a plane for ${data.planes.length}`,
    };
  },
};

/** `share` of the figure's height is the planes'. */
function lossScale(look, log, share) {
  const ink = inks(look.dark);
  const bar = {thickness: 8, len: Math.min(1, share) * 0.92, y: 0, yanchor: "bottom", x: 1, xpad: 14, outlinewidth: 0, tickfont: {size: 11, color: ink.soft}};
  // Heights are logarithms on a log scale: write the losses themselves.
  const decades = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000, 10000];
  const ticks = log ? {tickvals: decades.map(Math.log10), ticktext: decades.map(String)} : {};
  return {colorscale: ink.heights, colorbar: {...bar, ...ticks}};
}
