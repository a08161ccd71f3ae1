// Compare: a row a run, the last numbers of each, and any two of them against each other.

import {count, cut, number, plain} from "../format.js";
import {average, deviation} from "../seeds.js";
import {axesOf, paneLayout} from "../panes.js";

// What stands in the table, in this order; `digits` writes a value.
export const COLUMNS = [
  {key: "batch_size", title: "Batch size", unit: "examples", write: number},
  {key: "learning_rate", title: "Learning rate", unit: "", write: number},
  {key: "test_accuracy", title: "Test accuracy", unit: "share", write: number},
  {key: "test_loss", title: "Test loss", unit: "", write: number},
  {key: "train_loss", title: "Train loss", unit: "", write: number},
  {key: "top_eigenvalue", title: "Top eigenvalue", unit: "loss / weight²", write: number},
  {key: "sharpness", title: "Sharpness", unit: "%", write: number},
  {key: "updates", title: "Updates", unit: "", write: count},
  {key: "seconds", title: "Seconds", unit: "s", write: number},
];

const value = (row, key) => (row[key] === null || row[key] === undefined ? NaN : Number(row[key]));

/** Rows of the table: runs, or groups of seeds with {mean, deviation, n} in each cell. */
export function tableRows(data, look) {
  const columns = COLUMNS.filter(({key}) => data.rows.some((row) => Number.isFinite(value(row, key))));
  const runs = data.rows.map((row) => {
    const run = data.runs.find((one) => one.run === row.run);
    return {name: row.run, group: row.group, colour: run ? run.colour : "#888888", numSeeds: 1, cells: columns.map(({key}) => ({mean: value(row, key), deviation: 0}))};
  });
  const rows = look.seeds === "separate" ? runs : groupRows(runs, columns);
  const {sort = "", order = "up"} = look.option;
  const at = columns.findIndex(({key}) => key === sort);
  const sign = order === "up" ? 1 : -1;
  const byName = (a, b) => a.name.localeCompare(b.name, "en", {numeric: true});
  if (sort === "name") rows.sort((a, b) => sign * byName(a, b));
  else if (at >= 0) rows.sort((a, b) => nanLast(a.cells[at].mean, b.cells[at].mean, sign));
  return {columns, rows};
}

function nanLast(a, b, sign) {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return sign * (a - b);
}

function groupRows(runs, columns) {
  const groups = new Map();
  for (const run of runs) groups.set(run.group, [...(groups.get(run.group) || []), run]);
  return [...groups].map(([group, members]) => {
    if (members.length === 1) return members[0];
    const cells = columns.map((_, i) => {
      const known = members.map((run) => run.cells[i].mean).filter(Number.isFinite);
      return {mean: average(known), deviation: deviation(known)};
    });
    return {name: group, group, colour: members[0].colour, numSeeds: members.length, cells};
  });
}

/** A cell as it is read: "0.912", or "0.912 ± 0.004" over seeds. */
export function cellText(cell, column, numSeeds) {
  if (Number.isNaN(cell.mean)) return "–";
  return numSeeds > 1 && cell.deviation > 0 ? `${column.write(cell.mean)} ± ${number(cell.deviation)}` : column.write(cell.mean);
}

/** The table for a spreadsheet: full numbers, and a column of deviations beside each mean. */
export function tableCsv({columns, rows}) {
  // A cell that begins like a formula would be one in a spreadsheet.
  const quote = (text) => `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replace(/"/g, '""')}"`;
  const grouped = rows.some((row) => row.numSeeds > 1);
  const head = ["run", ...(grouped ? ["seeds"] : []), ...columns.flatMap(({key}) => (grouped ? [key, `${key}_deviation`] : [key]))];
  const write = (number) => (Number.isNaN(number) ? "" : String(number));
  const lines = rows.map((row) => [
    quote(row.name), ...(grouped ? [row.numSeeds] : []),
    ...row.cells.flatMap((cell) => (grouped ? [write(cell.mean), write(cell.deviation)] : [write(cell.mean)])),
  ]);
  return [head, ...lines].map((cells) => `${cells.join(",")}\n`).join("");
}

const axisOptions = () => COLUMNS.map(({key, title}) => ({value: key, text: title}));

/** The column that was chosen, or the first that the runs have. */
const columnFor = (table, key) => table.columns.find((column) => column.key === key) || table.columns[0];

function points(table, across, up) {
  const [i, j] = [across, up].map((key) => table.columns.findIndex((column) => column.key === key));
  if (i < 0 || j < 0) return [];
  return table.rows.filter((row) => Number.isFinite(row.cells[i].mean) && Number.isFinite(row.cells[j].mean)).map((row) => ({
    type: "scatter", mode: "markers", ...axesOf(1), x: [row.cells[i].mean], y: [row.cells[j].mean], name: plain(cut(row.name, 60)),
    marker: {size: 9, color: row.colour, line: {width: 1, color: row.colour}},
    error_x: {array: [row.cells[i].deviation], visible: row.numSeeds > 1, thickness: 1, width: 0, color: row.colour},
    error_y: {array: [row.cells[j].deviation], visible: row.numSeeds > 1, thickness: 1, width: 0, color: row.colour},
    text: [plain(cut(row.name))], hovertemplate: "%{text}<br>%{x}, %{y}<extra></extra>", meta: {part: "point", run: row.name},
  }));
}

export const compare = {
  id: "compare",
  title: "Compare",
  how: "The last number of each run; group seeds above for means with their standard deviation. Points show two columns against each other.",
  unit: () => "",
  wide: true,
  controls: [
    {key: "across", label: "Across", options: axisOptions, initial: "top_eigenvalue"},
    {key: "up", label: "Up", options: axisOptions, initial: "test_accuracy"},
  ],
  empty: {
    text: "No run here has numbers to compare. They come with what the panels above show, for example:",
    code: ['lb.callbacks.RunSummary("runs/a")', 'tb_plugin.summary.scalar("generalization/test_accuracy", value, step=step)'],
  },
  has: (run) => run.tags.length > 0,
  tags: () => [],
  async *load(store, ask) {
    const {rows, errors = []} = await store.table(ask.runs, ask.signal);
    yield {runs: ask.runs, rows, errors};
  },

  table: tableRows,

  figure(data, look) {
    const table = tableRows(data, look);
    if (table.columns.length < 2) return {data: [], layout: paneLayout([], look), notes: [], keys: [], summary: ""};
    const [across, up] = [look.option.across, look.option.up].map((key) => columnFor(table, key));
    const traces = points(table, across.key, up.key);
    const wide = (key) => (["batch_size", "learning_rate", "top_eigenvalue", "sharpness", "updates"].includes(key) ? "log" : "linear");
    const unit = up.unit;
    const pane = {
      title: up.title, unit, x: {title: across.unit ? `${across.title.toLowerCase()} (${across.unit})` : across.title.toLowerCase(), type: wide(across.key)},
      y: {type: wide(up.key)},
    };
    const withNumbers = traces.filter((trace) => (wide(across.key) === "linear" || trace.x[0] > 0) && (wide(up.key) === "linear" || trace.y[0] > 0));
    return {
      data: withNumbers,
      layout: paneLayout([[pane]], look, {traces: withNumbers, height: 240}),
      notes: [],
      keys: [],
      summary: `${up.title} against ${across.title.toLowerCase()}, ${withNumbers.length} points`,
    };
  },
};
