// The controls of a panel, from its description:
// {key, label, options: list or (ask) => list, value?: (ask) => shown value, initial, hideSingle}, or with
// kind "slider": {key, label, stops: (data, ask) => increasing numbers, unit}. A slider at its end chooses "".

import {choice, element, offer} from "./elements.js";
import {number} from "./format.js";

/** The options of a panel as the reader set them. */
export function optionsOf(panel, view) {
  const read = (control) => [control.key, view.get(`${panel.id}.${control.key}`, control.initial || "")];
  return Object.fromEntries([...panel.controls.map(read), ["sort", view.get(`${panel.id}.sort`)], ["order", view.get(`${panel.id}.order`, "up")]]);
}

/** Builds the controls: {nodes, refresh(ask, data)}. */
export function panelControls(panel, view) {
  const set = (control, value) => view.set({[`${panel.id}.${control.key}`]: value === (control.initial || "") ? null : value});
  const made = panel.controls.map((control) => (control.kind === "slider" ? slider(panel, control, set) : select(panel, control, set)));
  return {nodes: made.map((one) => one.box), refresh: (ask, data) => made.forEach((one) => one.refresh(ask, data))};
}

function select(panel, control, set) {
  const {box, select: node} = choice(control.label, (value) => set(control, value));
  node.setAttribute("aria-label", `${control.label}, ${panel.title}`);
  return {box, refresh(ask) {
    const options = typeof control.options === "function" ? control.options(ask) : control.options;
    offer(node, options, control.value ? control.value(ask) : ask.option[control.key]);
    box.hidden = options.length < 1 || Boolean(control.hideSingle && options.length < 2);
  }};
}

function slider(panel, control, set) {
  let stops = [];
  const output = element("output", {class: "moment"});
  const input = element("input", {type: "range", min: "0", step: "1", "aria-label": `${control.label}, ${panel.title}`});
  const box = element("label", {class: "control slider"}, element("span", {}, control.label), input, output);
  const say = (unit) => {
    output.textContent = stops.length ? `${number(stops[Number(input.value)])} ${unit}` : "";
    input.setAttribute("aria-valuetext", output.textContent);
  };
  let unit = "";
  let timer = null;
  input.addEventListener("input", () => {
    say(unit);
    clearTimeout(timer);
    const i = Number(input.value);
    timer = setTimeout(() => set(control, i === stops.length - 1 ? "" : String(stops[i])), 120);
  });
  return {box, refresh(ask, data) {
    if (data) stops = control.stops(data, ask);
    unit = control.unit(ask);
    const chosen = ask.option[control.key];
    const at = chosen === "" ? stops.length - 1 : stops.filter((stop) => stop <= Number(chosen) * (1 + 1e-9)).length - 1;
    input.max = String(Math.max(0, stops.length - 1));
    if (document.activeElement !== input || !input.matches(":active")) input.value = String(Math.max(0, at));
    box.hidden = stops.length < 2;
    say(unit);
  }};
}
