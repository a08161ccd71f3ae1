// The frame of a panel: heading, controls, the drawing, what stands below it, and its states (loading,
// empty, failed). It knows no data.

import {element, fill, freshId} from "./elements.js";
import {cut} from "./format.js";

const MOST_ERRORS = 5;

/** The DOM of a panel: {section, plot, stage, ...} and functions that put it into a state. */
export function makeCard(panel, {controls, exportAs, resetZoom, skip}) {
  const heading = freshId("heading");
  const unit = element("span", {class: "unit"});
  const reset = element("button", {type: "button", class: "quiet", hidden: true, onclick: resetZoom}, "Reset zoom");
  const formats = panel.tags ? ["csv", "json", "svg", "png"] : [];
  const exports = formats.map((format) => element("button", {
    type: "button", class: "quiet", "aria-label": `Save ${panel.title} as ${format.toUpperCase()}`, onclick: () => exportAs(format),
  }, format.toUpperCase()));
  const plot = element("div", {class: "plot", id: `plot-${panel.id}`});
  const stage = element("div", {class: "stage", tabindex: "0", role: "img", "aria-label": panel.title}, plot);
  const table = element("div", {class: "table"});
  const message = element("div", {class: "message", role: "status", hidden: true, style: `min-height:${panel.roughHeight || 380}px`});
  const keys = element("ul", {class: "keys", "aria-label": "Key"});
  const notes = element("p", {class: "notes", role: "status"});
  const errors = element("ul", {class: "errors", role: "alert", hidden: true});
  const bar = element("div", {class: "bar", "aria-hidden": "true"});
  const choices = element("div", {class: "controls"}, ...controls);
  const section = element(
    "section", {class: `card${panel.wide ? " wide" : ""}`, id: `panel-${panel.id}`, "aria-labelledby": heading, tabindex: "-1"},
    element("button", {type: "button", class: "skip", onclick: skip.go}, `Skip to ${skip.title}`),
    element("header", {},
      element("div", {class: "titles"}, element("h2", {id: heading}, panel.title, unit), element("p", {class: "how"}, panel.how)),
      element("div", {class: "tools"}, reset, ...exports)),
    choices,
    bar, message, table, stage,
    element("footer", {}, keys, notes, errors),
  );

  const show = (...nodes) => [stage, table, message].forEach((node) => { node.hidden = !nodes.includes(node); });
  show(message);

  return {
    section, stage, plot, table,
    setUnit: (text) => { unit.textContent = text; },
    setZoomed: (zoomed) => { reset.hidden = !zoomed; },
    setBusy(busy) {
      section.classList.toggle("busy", busy);
      section.setAttribute("aria-busy", String(busy));
      if (busy && stage.hidden) say(message, "Loading …");
    },
    /** Nothing to draw: why, and what to type. */
    setEmpty(text, code = []) {
      message.style.minHeight = ""; // nothing will come that needs the room
      choices.hidden = true;
      say(message, text, ...code.map((line) => element("code", {}, line)));
      show(message);
      [keys, notes].forEach((node) => fill(node));
      exports.forEach((button) => { button.disabled = true; });
      section.classList.remove("drawn");
    },
    setDrawn(figure, withTable) {
      show(...(withTable ? [table] : []), ...(figure.data.length || !withTable ? [stage] : []));
      choices.hidden = false;
      stage.setAttribute("aria-label", figure.summary);
      notes.textContent = figure.notes.join(" ");
      fill(keys, ...figure.keys.map(keyOf));
      exports.forEach((button) => { button.disabled = false; });
      section.classList.add("drawn");
    },
    setErrors(list) {
      const shown = list.slice(0, MOST_ERRORS).map(({run, tag, message: text}) => element("li", {}, [run, tag].filter(Boolean).map((name) => cut(name, 80)).join(", "), run ? ": " : "", text));
      if (list.length > MOST_ERRORS) shown.push(element("li", {}, `and ${list.length - MOST_ERRORS} more`));
      fill(errors, ...shown);
      errors.hidden = !list.length;
    },
  };
}

function say(node, text, ...rest) {
  fill(node, element("p", {}, text), ...rest);
}

/** A sample of a line or mark with what it means. */
function keyOf({line, mark, colour, text}) {
  const sample = element("span", {class: line ? `sample ${line}` : `sample ${mark}`, "aria-hidden": "true", style: colour ? `color:${colour}` : null});
  return element("li", {}, sample, text);
}
