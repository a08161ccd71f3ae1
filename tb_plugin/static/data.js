// All access to the server, through one object with a method for each route. In a report there is no
// server: `window.__lbgap_report` holds the answers,
// {runs: <./runs>, series: <./series of all>, frames: <./frames of all>, frame: [<./frame>, ...],
//  heatmap: [<./heatmap>, ...], table: <./table>}.
//
// Answers about a (run, tag) are kept until its last step or time changes.

import {numbers} from "./format.js";

const RUNS_PER_REQUEST = 5; // small enough that first lines come early, large enough that requests are few
const POINTS = 1000;
const KEPT = 4000; // answers

/** The server, or the report that stands in for it. */
export function openSource() {
  return window.__lbgap_report ? reportSource(window.__lbgap_report) : serverSource();
}

async function answerOf(response, what) {
  if (response.ok) return response.json();
  const text = await response.text();
  throw new Error(`${what}: the server answered ${response.status}. ${text.slice(0, 300)}`);
}

function serverSource() {
  const get = async (path, signal) => answerOf(await fetch(path, {signal}), path);
  const post = async (path, body, signal) => {
    const headers = {"Content-Type": "application/json"};
    const request = {method: "POST", headers, body: JSON.stringify(body), signal};
    return answerOf(await fetch(path, request), path);
  };
  const query = (fields) => new URLSearchParams(fields).toString();
  return {
    runs: (signal) => get("./runs", signal),
    /** TensorBoard's own run names in its own order: the order gives the colours. */
    order: (signal) => get("../../runs", signal),
    series: (ask, signal) => post("./series", ask, signal),
    frames: (ask, signal) => post("./frames", ask, signal),
    frame: (ask, signal) => get(`./frame?${query(Object.entries(ask).filter(([, value]) => value !== null))}`, signal),
    heatmap: (ask, signal) => post("./heatmap", ask, signal),
    table: (ask, signal) => post("./table", ask, signal),
    /** Where all points of these runs and tags can be had as "csv" or "json"; empty lists mean all. */
    exportUrl(format, runs, tags) {
      const fields = [...runs.map((run) => ["run", run]), ...tags.map((tag) => ["tag", tag])];
      return `./export.${format}?${query(fields)}`;
    },
  };
}

function reportSource(report) {
  const within = (ask, answers) => answers.filter((one) => ask.runs.includes(one.run) && ask.tags.includes(one.tag));
  const one = (ask, answers) => {
    const step = ask.step === undefined ? null : ask.step;
    const found = answers.filter((answer) => answer.run === ask.run && answer.tag === ask.tag);
    const exact = found.find((answer) => answer.step === step) || found[found.length - 1];
    if (!exact) throw new Error(`${ask.run}, ${ask.tag}: not in this report`);
    return exact;
  };
  return {
    runs: async () => report.runs,
    order: async () => report.runs.runs.map((run) => run.run),
    series: async (ask) => ({series: within(ask, report.series.series), errors: []}),
    frames: async (ask) => ({frames: within(ask, report.frames.frames), errors: []}),
    frame: async (ask) => one(ask, report.frame),
    heatmap: async (ask) => one(ask, report.heatmap),
    table: async (ask) => ({...report.table, rows: report.table.rows.filter((row) => ask.runs.includes(row.run))}),
    exportUrl: () => null,
  };
}

/** Keeps answers, and asks for many runs in small groups. */
export function openStore(source) {
  const kept = new Map();
  const keep = (key, value) => {
    kept.set(key, value);
    if (kept.size > KEPT) kept.delete(kept.keys().next().value);
    return value;
  };

  /** One answer of a route that is about one run and tag. */
  async function once(route, run, ask, signal) {
    const key = JSON.stringify([route, stamp(run, ask.tag), ask]);
    return kept.get(key) || keep(key, await source[route](ask, signal));
  }

  return {
    frame: (run, tag, step, signal) => once("frame", run, {run: run.run, tag, step}, signal).then(frameNumbers),
    heatmap: (run, tag, bins, signal) => once("heatmap", run, {run: run.run, tag, bins}, signal).then(frameNumbers),
    async frames(runs, tags, signal) {
      const answer = await source.frames({runs: runs.map((run) => run.run), tags}, signal);
      return {...answer, frames: answer.frames.map(frameNumbers)};
    },
    table: (runs, signal) => source.table({runs: runs.map((run) => run.run)}, signal),
    exportUrl: source.exportUrl,

    /** Yields {series, errors} after each group of runs, all series so far in the order of `runs`. */
    async *series(runs, tags, steps, signal) {
      const keyOf = (run, tag) => JSON.stringify(["series", run.run, stamp(run, tag), steps]);
      const wanted = runs.map((run) => ({run, tags: tags.filter((tag) => tagOf(run, tag))})).filter((one) => one.tags.length);
      const missing = wanted.filter(({run, tags: own}) => own.some((tag) => !kept.has(keyOf(run, tag))));
      const errors = [];
      const soFar = () => ({
        series: wanted.flatMap(({run, tags: own}) => own.map((tag) => kept.get(keyOf(run, tag))).filter(Boolean)),
        errors,
      });
      for (let first = 0; first < missing.length; first += RUNS_PER_REQUEST) {
        const group = missing.slice(first, first + RUNS_PER_REQUEST).map(({run}) => run);
        const ask = {runs: group.map((run) => run.run), tags, points: POINTS, steps};
        const answer = await source.series(ask, signal).catch((problem) => failedFor(ask, problem));
        for (const one of answer.series) keep(keyOf(group.find((run) => run.run === one.run), one.tag), seriesNumbers(one));
        errors.push(...answer.errors);
        yield soFar();
      }
      if (!missing.length) yield soFar();
    },
  };
}

/** An answer that says of each run that it did not come; other groups still do. */
function failedFor(ask, problem) {
  if (problem.name === "AbortError") throw problem;
  return {series: [], errors: ask.runs.map((run) => ({run, tag: ask.tags.join(", "), message: problem.message}))};
}

export function tagOf(run, tag) {
  return run.tags.find((one) => one.tag === tag);
}

/** Changes when something was written to the tag, or to what gives its other axes. */
function stamp(run, tag) {
  const axes = ["progress/epochs", "progress/examples", "generalization/train_loss"];
  const related = run.tags.filter((one) => one.tag === tag || axes.includes(one.tag));
  return [tag, ...related.map((one) => [one.max_step, one.max_wall_time])];
}

const axisNumbers = (x) => Object.fromEntries(Object.entries(x).map(([name, values]) => [name, numbers(values)]));

function seriesNumbers(one) {
  return {...one, x: axisNumbers(one.x), values: one.values.map(numbers)};
}

const NAMES = new Set(["run", "tag", "kind", "columns"]); // fields of a frame that are text

function frameNumbers(frame) {
  const nested = (values) => (Array.isArray(values[0]) ? values.map(numbers) : numbers(values));
  const read = ([name, value]) => {
    if (name === "x") return [name, axisNumbers(value)];
    return [name, Array.isArray(value) && !NAMES.has(name) ? nested(value) : value];
  };
  return Object.fromEntries(Object.entries(frame).map(read));
}

/** What orders the rows of a series: updates, or epochs where Keras wrote only those. */
export function clockOf(one) {
  return one.x.updates || one.x.epochs;
}
