// What leaves the page: pictures of a figure, and the numbers behind it.

import {picture} from "./plotting.js";

const LONGEST_ADDRESS = 6000; // browsers and proxies cut longer ones

/** Saves a blob or data URL as a file. */
export function save(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}

export function saveText(text, type, name) {
  const url = URL.createObjectURL(new Blob([text], {type}));
  save(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** All points of these runs and tags from the server; where there is none, the points that are drawn. */
export function saveNumbers(store, format, runs, tags, name, series) {
  let url = store.exportUrl(format, runs, tags);
  if (url && url.length > LONGEST_ADDRESS) url = store.exportUrl(format, [], tags);
  if (url) save(url, `${name}.${format}`);
  else if (format === "json") saveText(JSON.stringify(series), "application/json", `${name}.json`);
  else saveText(seriesCsv(series), "text/csv", `${name}.csv`);
}

function seriesCsv(series) {
  const quote = (text) => `"${(/^[=+\-@]/.test(text) ? `'${text}` : text).replace(/"/g, '""')}"`;
  const rows = series.flatMap((one) => one.columns.flatMap((column, j) => one.values[j].map((value, i) => [quote(one.run), quote(one.tag), column, one.x.updates[i], value].join(","))));
  return ["run,tag,column,step,value", ...rows, ""].join("\n");
}

export async function savePicture(figure, format, title, name) {
  save(await picture(figure, format, title), `${name}.${format}`);
}

