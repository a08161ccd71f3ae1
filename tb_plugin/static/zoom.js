// What part of a figure the reader looks at, in the address and towards the server.
//
// A zoom is {xaxis: [low, high], yaxis2: [low, high], ...} in data units.

import {clockOf} from "./data.js";

/** {xaxis: [1, 2]} -> "xaxis:1:2", joined by commas. */
export function zoomText(zoom) {
  const text = (value) => String(Number(value.toPrecision(6)));
  return Object.entries(zoom).map(([name, [low, high]]) => `${name}:${text(low)}:${text(high)}`).join(",");
}

export function parseZoom(text) {
  const zoom = {};
  for (const part of text.split(",")) {
    const [name, low, high] = part.split(":");
    if (/^[xy]axis\d*$/.test(name) && low && high && [low, high].every((value) => Number.isFinite(Number(value)))) {
      zoom[name] = [Number(low), Number(high)];
    }
  }
  return zoom;
}

/** `zoom` changed by one of Plotly's relayout events; a log axis speaks in powers of ten there. */
export function zoomAfter(zoom, event, layout) {
  const next = {...zoom};
  for (const [key, value] of Object.entries(event)) {
    const [, name, end] = key.match(/^([xy]axis\d*)\.range(?:\[(\d)\])?$/) || [];
    const [, free] = key.match(/^([xy]axis\d*)\.autorange$/) || [];
    if (free && value) delete next[free];
    if (!name) continue;
    const real = (number) => (layout[name] && layout[name].type === "log" ? 10 ** number : Number(number));
    if (end === undefined) next[name] = value.map(real);
    else next[name] = Object.assign([...(next[name] || [0, 0])], {[end]: real(value)});
  }
  return next;
}

/** The steps that are in view along x, with half a view more on each side; null for all. */
export function stepsInView(series, zoom, x) {
  const range = zoom.xaxis;
  if (!range || !series.some((one) => one.num_points > one.values[0].length)) return null;
  const [low, high] = [Math.min(...range), Math.max(...range)];
  let [first, last] = [Infinity, -Infinity];
  for (const one of series) {
    const [at, clock] = [one.x[x] || [], one.x.updates || []]; // what Keras wrote is short: never thinned
    for (let i = 0; i < at.length; i += 1) {
      // A point counts when it or a neighbour is in view: a line may cross the view between two points.
      if ([i - 1, i, i + 1].some((j) => at[j] >= low && at[j] <= high)) {
        first = Math.min(first, clock[i] ?? Infinity);
        last = Math.max(last, clock[i] ?? -Infinity);
      }
    }
  }
  if (x === "updates") [first, last] = [Math.min(first, low), Math.max(last, high)];
  if (first > last) return null;
  const margin = (last - first) / 2;
  return [Math.max(0, Math.floor(first - margin)), Math.ceil(last + margin)];
}

/** Coarse rows outside of `steps`, fine ones inside. */
export function splice(coarse, fine, [first, last]) {
  return coarse.map((outer) => {
    const inner = fine.find((one) => one.run === outer.run && one.tag === outer.tag);
    if (!inner || !outer.x.updates) return outer;
    const clock = clockOf(outer);
    // The server adds a neighbour on each side of what was asked for: begin and end where its rows do.
    const [start, end] = inner.x.updates.length ? [inner.x.updates[0], inner.x.updates[inner.x.updates.length - 1]] : [first, last];
    const before = clock.findIndex((step) => step >= start);
    const after = clock.findIndex((step) => step > end);
    const cutAt = [before < 0 ? clock.length : before, after < 0 ? clock.length : after];
    const join = (a, b) => [...a.slice(0, cutAt[0]), ...b, ...a.slice(cutAt[1])];
    const x = {};
    for (const name of Object.keys(outer.x)) if (outer.x[name] && inner.x[name]) x[name] = join(outer.x[name], inner.x[name]);
    const columns = outer.columns.map((name) => inner.columns.indexOf(name));
    const values = columns.map((at, i) => join(outer.values[i], at < 0 ? clockOf(inner).map(() => NaN) : inner.values[at]));
    return {...outer, x, values};
  });
}
