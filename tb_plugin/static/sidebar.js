// The list of runs: a filter, a tick box a run in the run's colour. It is the legend of every panel.

import {element, fill} from "./elements.js";
import {several} from "./format.js";
import {hiddenRuns} from "./state.js";

/** `page` = {view, allRuns(), matched(): names that the filter leaves}. Returns {node, refresh(text)}. */
export function makeSidebar(page) {
  const {view} = page;
  const message = element("p", {class: "filter-message", role: "status"});
  const input = element("input", {
    type: "search", placeholder: "Filter runs (regex)", "aria-label": "Filter runs by regular expression", spellcheck: "false",
    value: view.get("filter"),
  });
  let timer = null;
  const apply = () => {
    clearTimeout(timer);
    view.set({filter: input.value || null});
  };
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(apply, 250);
  });
  input.addEventListener("change", apply); // who leaves the field at once is not made to wait
  const everyone = element("input", {type: "checkbox", "aria-label": "All runs", onchange: () => tickAll(everyone.checked)});
  const total = element("span", {class: "total"});
  const list = element("ul", {class: "runs"});
  const node = element("aside", {class: "sidebar", "aria-label": "Runs"}, input, message, element("label", {class: "everyone"}, everyone, total), list);

  const setHidden = (names) => view.set({off: names.size ? JSON.stringify([...names]) : null});
  function tickAll(on) {
    const hidden = hiddenRuns(view);
    for (const run of page.matched()) (on ? hidden.delete(run.run) : hidden.add(run.run));
    setHidden(hidden);
  }
  function tick(run, on) {
    const hidden = hiddenRuns(view);
    if (on) hidden.delete(run);
    else hidden.add(run);
    setHidden(hidden);
  }
  function only(run) {
    setHidden(new Set(page.allRuns().map((one) => one.run).filter((name) => name !== run)));
  }

  function rowOf(run, hidden) {
    const box = element("input", {type: "checkbox", style: `accent-color:${run.colour};--run:${run.colour}`, onchange: (event) => tick(run.run, event.target.checked)});
    box.checked = !hidden.has(run.run);
    const notes = [run.note, ...run.tags.filter((tag) => tag.note).map((tag) => `${tag.tag}: ${tag.note}`)].filter(Boolean);
    const warning = notes.length ? element("span", {class: "warning", title: notes.join("\n"), "aria-label": notes.join(". ")}, "!") : null;
    const name = element("span", {class: "name", title: run.run}, ...tailed(run.run));
    const lone = element("button", {type: "button", class: "only", "aria-label": `Only ${run.run}`, onclick: (event) => { event.preventDefault(); only(run.run); }}, "only");
    return element("li", {}, element("label", {}, box, name, warning), lone);
  }

  /** `text`: what is wrong with the filter; without it, what was said last stays. */
  function refresh(text = message.textContent) {
    const hidden = hiddenRuns(view);
    const shown = page.matched();
    const numTicked = shown.filter((run) => !hidden.has(run.run)).length;
    if (document.activeElement !== input) input.value = view.get("filter");
    message.textContent = text;
    message.hidden = !text;
    everyone.checked = numTicked === shown.length && numTicked > 0;
    everyone.indeterminate = numTicked > 0 && numTicked < shown.length;
    total.textContent = numTicked === shown.length ? several(shown.length, "run") : `${numTicked} of ${several(shown.length, "run")}`;
    // A box that has the focus keeps it when the list is made anew.
    const focused = [...list.querySelectorAll("input")].indexOf(document.activeElement);
    fill(list, ...shown.map((run) => rowOf(run, hidden)));
    if (focused >= 0) list.querySelectorAll("input")[focused]?.focus();
  }
  return {node, refresh};
}

/** A name in two parts, of which the first gives way when there is no room: runs differ at their ends. */
function tailed(name) {
  const at = Math.max(0, name.length - 12);
  return [element("span", {class: "head"}, name.slice(0, at)), element("span", {class: "tail"}, name.slice(at))];
}
