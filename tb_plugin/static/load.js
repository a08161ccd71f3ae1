// Getting the series of a panel: all of each run first, then more points of what is in view.

import {splice, stepsInView} from "./zoom.js";

/** Yields {runs, series, errors} whenever there is more to draw. `ask` = {runs, zoom, x, signal}. */
export async function* loadLines(store, ask, tags) {
  let all = {series: [], errors: []};
  for await (all of store.series(ask.runs, tags, null, ask.signal)) yield {runs: ask.runs, ...all};
  const steps = stepsInView(all.series, ask.zoom, ask.x);
  if (!steps) return;
  for await (const part of store.series(ask.runs, tags, steps, ask.signal)) {
    const errors = [...all.errors, ...part.errors];
    yield {runs: ask.runs, series: splice(all.series, part.series, steps), errors};
  }
}

/** The distinct tags of the runs that `fits(tag)`, in the order of their first appearance. */
export function tagsOf(runs, fits) {
  const seen = new Map();
  for (const run of runs) for (const tag of run.tags) if (!seen.has(tag.tag) && fits(tag)) seen.set(tag.tag, tag);
  return [...seen.values()];
}
