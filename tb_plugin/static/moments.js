// Panels that show one moment of training: which of a run's frames belongs to it, and which runs are shown
// side by side.

import {X_TITLES} from "./panes.js";

/** The x values of `frames` [{steps, x: {updates, ...}}] along an axis, all runs together, increasing. */
export function stopsOf(frames, axis) {
  return [...new Set(frames.flatMap((one) => one.x[axis] || one.steps).filter(Number.isFinite))].sort((a, b) => a - b);
}

/** The step of the last frame at or before `moment` on the axis, else the first; the last of all without one. */
export function stepAt(frame, axis, moment) {
  const at = frame.x[axis] || frame.steps;
  if (moment === "") return frame.steps[frame.steps.length - 1];
  const slack = 1e-9 * Math.abs(Number(moment)); // a moment comes back from text
  const before = frame.steps.filter((_, i) => at[i] <= Number(moment) + slack);
  return before.length ? before[before.length - 1] : frame.steps[0];
}

/** Slider over the moments of what is shown; at its right end it stays with the latest. */
export const momentControl = {
  key: "moment", label: "Moment", kind: "slider",
  stops: (data, ask) => stopsOf(data.frames || [], ask.x),
  unit: (ask) => X_TITLES[ask.x],
};

/** The two runs that `fits(run)` shown side by side: those chosen, else the first and the first of another group. */
export function sidesOf(ask, fits) {
  const able = ask.runs.filter(fits);
  const left = able.find((run) => run.run === ask.option.left) || able[0];
  if (!left || ask.option.right === "none") return [left].filter(Boolean);
  const others = able.filter((run) => run !== left);
  const usual = others.find((run) => run.group !== left.group) || others[0];
  return [left, others.find((run) => run.run === ask.option.right) || usual].filter(Boolean);
}

/** The two selects that go with `sidesOf`. */
export function sideControls(fits) {
  const options = (ask) => ask.runs.filter(fits).map((run) => ({value: run.run, text: run.run}));
  const chosen = (ask, i) => (sidesOf(ask, fits)[i] || {run: "none"}).run;
  return [
    {key: "left", label: "Run", options, value: (ask) => chosen(ask, 0)},
    {key: "right", label: "beside", options: (ask) => [{value: "none", text: "none"}, ...options(ask)], value: (ask) => chosen(ask, 1)},
  ];
}
