// What holds for all panels: the x axis, smoothing, seeds; reloading and the full export.

import {choice, element, offer} from "./elements.js";
import {X_TITLES} from "./panes.js";

const AXES = ["updates", "epochs", "examples", "seconds"].map((value) => ({value, text: X_TITLES[value]}));
const SCALES = [{value: "linear", text: "linear"}, {value: "log", text: "log"}];
const SEEDS = [
  {value: "separate", text: "separate"}, {value: "range", text: "mean, min to max"}, {value: "deviation", text: "mean ± deviation"},
];

/** Returns {node, refresh()}. `reload()` asks the server anew; `exportUrl(format)` is null in a report. */
export function makeToolbar(view, {reload, exportUrl}) {
  const selects = [["x", "X axis", AXES], ["xscale", "Scale", SCALES], ["seeds", "Seeds", SEEDS]].map(([key, label, options]) => {
    const {box, select} = choice(label, (value) => view.set({[key]: value}));
    return {box, refresh: () => offer(select, options, view.get(key))};
  });
  const slider = element("input", {type: "range", min: "0", max: "0.999", step: "0.001", "aria-label": "Smoothing"});
  const field = element("input", {type: "number", min: "0", max: "0.999", step: "0.01", "aria-label": "Smoothing weight"});
  const smooth = (node) => node.addEventListener("input", () => view.set({smoothing: String(Number(node.value) || 0)}));
  [slider, field].forEach(smooth);
  const smoothing = element("div", {class: "control"}, element("span", {}, "Smoothing"), slider, field);
  const links = ["csv", "json"].map((format) => [format, exportUrl(format)]).filter(([, url]) => url);
  const saves = links.map(([format, url]) => element("a", {
    class: "quiet", href: url, download: `lbgap.${format}`, "aria-label": `Save all runs as ${format.toUpperCase()}`,
  }, `All ${format.toUpperCase()}`));
  const again = reload ? element("button", {type: "button", class: "quiet", onclick: reload}, "Reload") : null;
  const [axis, scale, seeds] = selects;
  const node = element("div", {class: "toolbar", role: "toolbar", "aria-label": "Settings of all panels"}, axis.box, scale.box, smoothing, seeds.box, element("span", {class: "space"}), ...saves, again);
  return {node, refresh() {
    selects.forEach((one) => one.refresh());
    const weight = view.get("smoothing");
    for (const input of [slider, field]) if (document.activeElement !== input) input.value = weight;
  }};
}
