// Spectral density: all eigenvalues of the Hessian at once, as a heat map over time and at one moment.

import {cut, number, plain} from "../format.js";
import {tagsOf} from "../load.js";
import {momentControl, sideControls, sidesOf, stepAt} from "../moments.js";
import {axesOf, pageAxis, paneLayout} from "../panes.js";
import {symlog, symlogTicks} from "../symlog.js";
import {faded, inks} from "../theme.js";

const BINS = 160;
const FLOOR = -5; // log10 of the smallest share that still has a colour

const isDensity = (tag) => tag.kind === "density";
const has = (run) => run.tags.some(isDensity);

function tagOf(ask) {
  const known = tagsOf(ask.runs, isDensity);
  return known.find((tag) => tag.tag === ask.option.tag) || known[0];
}

async function* load(store, ask) {
  const tag = tagOf(ask).tag;
  const shown = sidesOf(ask, (run) => run.tags.some((one) => one.tag === tag));
  const errors = [];
  const sides = await Promise.all(shown.map(async (run) => {
    try {
      const heatmap = await store.heatmap(run, tag, BINS, ask.signal);
      const frame = await store.frame(run, tag, stepAt(heatmap, ask.x, ask.option.moment), ask.signal);
      return {run, heatmap, frame};
    } catch (problem) {
      if (problem.name === "AbortError") throw problem;
      errors.push({run: run.run, tag, message: problem.message});
      return null;
    }
  }));
  const good = sides.filter(Boolean);
  yield {runs: ask.runs, tag, sides: good, frames: good.map((side) => side.heatmap), errors};
}

/** Borders of cells around increasing moments: halfway between them, on the axis as drawn. */
function borders(at, log) {
  const to = log ? Math.log : (value) => value;
  const from = log ? Math.exp : (value) => value;
  const mapped = at.map(to);
  const middle = mapped.slice(1).map((value, i) => (value + mapped[i]) / 2);
  // On a log axis nothing tells how far the first cell reaches back: it begins at its moment.
  const half = middle.length ? [middle[0] - mapped[0], mapped[mapped.length - 1] - middle[middle.length - 1]] : [0.5, 0.5];
  if (log && middle.length) half[0] = 0;
  return [mapped[0] - half[0], ...middle, mapped[mapped.length - 1] + half[1]].map(from);
}

/** The part of the axis that holds anything, over all sides: [lowest, highest] eigenvalue. */
function extent(sides) {
  let [low, high] = [Infinity, -Infinity];
  for (const {heatmap} of sides) {
    for (const row of heatmap.mass) {
      row.forEach((mass, i) => {
        if (!(mass > 10 ** FLOOR)) return;
        low = Math.min(low, heatmap.edges[i]);
        high = Math.max(high, heatmap.edges[i + 1]);
      });
    }
  }
  return low < high ? [low, high] : [-1, 1];
}

function heat({heatmap, run}, n, threshold, look) {
  const log = look.xscale === "log";
  const at = heatmap.x[look.x] || heatmap.steps;
  const shown = [...at.keys()].filter((i) => Number.isFinite(at[i]) && (!log || at[i] > 0));
  const share = (row, j) => heatmap.mass[row][j];
  const bins = [...Array(heatmap.edges.length - 1).keys()];
  return {
    type: "heatmap", ...axesOf(n), x: borders(shown.map((i) => at[i]), log), y: heatmap.edges.map((edge) => symlog(edge, threshold)),
    z: bins.map((j) => shown.map((i) => (share(i, j) > 0 ? Math.max(FLOOR, Math.log10(share(i, j))) : null))),
    customdata: bins.map((j) => shown.map((i) => [number(share(i, j)), number(heatmap.edges[j]), number(heatmap.edges[j + 1])])),
    hovertemplate: "%{customdata[0]} of the spectrum<br>from %{customdata[1]} to %{customdata[2]}<extra></extra>",
    coloraxis: "coloraxis", meta: {part: "heat", run: run.run},
  };
}

/** The thin line in a heat map at the moment drawn below. */
function cursor({heatmap, frame}, n, look) {
  const at = (heatmap.x[look.x] || heatmap.steps)[heatmap.steps.indexOf(frame.step)];
  const {xaxis, yaxis} = axesOf(n);
  return {type: "line", xref: xaxis, yref: `${yaxis} domain`, x0: at, x1: at, y0: 0, y1: 1, line: {color: inks(look.dark).accent, width: 1.5}};
}

function slice({frame, run}, n, threshold) {
  const shown = frame.density.map((value) => (value > 0 ? value : null));
  return {
    type: "scatter", mode: "lines", ...axesOf(n), x: frame.grid.map((value) => symlog(value, threshold)), y: shown, name: plain(cut(run.run)),
    line: {color: run.colour, width: 1.75}, fill: "tozeroy", fillcolor: faded(run.colour, 0.08), hoverinfo: "skip",
    meta: {part: "value", run: run.run, column: "density", colour: run.colour, x: frame.grid},
  };
}

export const density = {
  id: "density",
  title: "Spectral density",
  how: "Most eigenvalues lie in the bulk at 0; the few far out are the sharp directions, those below 0 are directions of descent.",
  unit: () => "share of eigenvalues",
  wide: true,
  controls: [
    {key: "tag", label: "Tag", options: (ask) => tagsOf(ask.runs, isDensity).map((tag) => ({value: tag.tag, text: tag.tag})), value: (ask) => (tagOf(ask) || {tag: ""}).tag, hideSingle: true},
    ...sideControls(has),
    momentControl,
  ],
  empty: {
    text: "No run here has a spectral density. Measure while training, or write your own numbers:",
    code: ['lb.callbacks.CurvatureMonitor(sample, density=4, log_dir="runs/a")', 'tb_plugin.summary.density("curvature/density", grid, density, step=step)'],
  },
  has,
  tags: (ask) => (tagOf(ask) ? [tagOf(ask).tag] : []),
  exported: (ask) => sidesOf(ask, has),
  load,

  figure(data, look) {
    const {sides} = data;
    const threshold = Math.min(...sides.map((side) => side.heatmap.linear_threshold));
    const [low, high] = extent(sides);
    const range = [low, high].map((value) => symlog(value, threshold));
    const symlogAxis = {type: "linear", range, ...symlogTicks(low, high, threshold)};
    const heatPane = ({run, frame}) => ({
      title: cut(run.run, 40), unit: `line at update ${number(frame.step)}`, x: pageAxis(look), y: symlogAxis,
    });
    const unit = (tagsOf(data.runs, (tag) => tag.tag === data.tag)[0] || {}).unit;
    const slicePane = {title: "Density at the line", unit: unit || "", x: {...symlogAxis, title: `eigenvalue (${eigenvalueUnit(unit)})`}, y: {type: "log", nticks: 4}};
    const last = sides.length + 1;
    const peak = Math.max(...sides.flatMap((side) => side.frame.density.filter(Number.isFinite)));
    slicePane.y.range = [Math.log10(peak) - 6, Math.log10(peak) + 0.3];
    const traces = [...sides.map((side, i) => heat(side, i + 1, threshold, look)), ...sides.map((side) => slice(side, last, threshold))];
    const layout = paneLayout([sides.map(heatPane), [slicePane]], look, {traces, height: 210, right: 64});
    layout.coloraxis = shareScale(look);
    layout.shapes = sides.map((side, i) => cursor(side, i + 1, look));
    return {
      data: traces,
      layout,
      notes: [],
      keys: sides.map(({run}) => ({line: "solid", colour: run.colour, text: cut(run.run, 30)})),
      summary: sides.map(({run, frame}) => `Spectrum of ${run.run} at update ${frame.step}, from ${number(low)} to ${number(high)}`).join(". "),
    };
  },
};

/** A density's unit is one over that of its eigenvalues. */
function eigenvalueUnit(unit) {
  const [, inner] = (unit || "").match(/^1 ?\/ ?\(?(.*?)\)?$/) || [];
  return inner || "loss / weight²";
}

function shareScale(look) {
  const ink = inks(look.dark);
  return {
    colorscale: ink.scale, cmin: FLOOR, cmax: 0,
    colorbar: {
      thickness: 8, len: 0.46, y: 1, yanchor: "top", x: 1, xpad: 14, outlinewidth: 0, tickfont: {size: 11, color: ink.soft},
      tickvals: [-5, -4, -3, -2, -1, 0], ticktext: ["0.001 %", "0.01 %", "0.1 %", "1 %", "10 %", "100 %"],
    },
  };
}
