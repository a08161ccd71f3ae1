// The page of the tab: openPage() builds it, in TensorBoard (index.js) and in a report alike.
//
// It holds the list of runs and seven panels. Runs come from the server; which of them are visible,
// and everything else that the reader chooses, is in the view, which is in the address.

import {openSource, openStore} from "./data.js";
import {element, fill} from "./elements.js";
import {connect, hostFont, isDark, isShown, on, onTheme} from "./host.js";
import {startPanel} from "./panel.js";
import {compare} from "./panels/compare.js";
import {density} from "./panels/density.js";
import {eigenvalues} from "./panels/eigenvalues.js";
import {gap} from "./panels/gap.js";
import {landscape} from "./panels/landscape.js";
import {schedules} from "./panels/schedules.js";
import {sharpness} from "./panels/sharpness.js";
import {plotly} from "./plotting.js";
import {openMatcher} from "./regex.js";
import {makeSidebar} from "./sidebar.js";
import {hiddenRuns, openView} from "./state.js";
import {runColours} from "./theme.js";
import {makeToolbar} from "./toolbar.js";

export const PANELS = [sharpness, eigenvalues, density, schedules, gap, landscape, compare];

/** Builds the page in this document. */
export function openPage() {
  const inReport = Boolean(window.__lbgap_report);
  if (!inReport) {
    connect();
    document.head.append(element("style", {}, hostFont("Roboto")));
  }
  document.documentElement.lang = "en";
  startPage(openSource(), openView(), inReport);
}

function startPage(source, view, inReport) {
  const colours = runColours();
  const match = openMatcher();
  const state = {runs: null, matched: new Set()};
  const page = {
    view, store: openStore(source), isDark, tooltip: element("div", {class: "tooltip", role: "status", hidden: true}),
    isReady: () => state.runs !== null,
    allRuns: () => coloured(state.runs || [], colours, view.get("seeds") !== "separate"),
    matched: () => page.allRuns().filter((run) => state.matched.has(run.run)),
    runs: () => page.matched().filter((run) => !hiddenRuns(view).has(run.run)),
  };
  Object.assign(page, firstFirst(PANELS[0].id));
  const panels = startPanels(page);
  const sidebar = makeSidebar(page);
  const banner = element("p", {class: "banner", role: "alert", hidden: true});
  const toolbar = makeToolbar(view, {reload: inReport ? null : reload, exportUrl: (format) => source.exportUrl(format, [], [])});
  const main = element("main", {}, banner, element("div", {class: "panels"}, ...panels.map((panel) => panel.section)));

  const paint = () => document.documentElement.classList.toggle("dark", isDark());
  const refreshAll = () => panels.forEach((panel) => panel.refresh());

  async function refilter() {
    const {names, message} = await match(view.get("filter"), page.allRuns().map((run) => run.run));
    state.matched = new Set(names);
    sidebar.refresh(message);
  }

  /** Asks for runs and their order; panels then ask for what has changed. */
  async function reload() {
    if (!isShown()) {
      state.stale = true; // the tab was left: when it is opened again
      return;
    }
    state.stale = false;
    try {
      const [answer, order] = await Promise.all([source.runs(), source.order().catch(() => [])]);
      colours.see(order);
      state.runs = inOrder(answer.runs, order);
      banner.textContent = answer.errors.map(({run, tag, message}) => `${run}, ${tag}: ${message}`).join("; ");
    } catch (problem) {
      banner.textContent = `The list of runs could not be loaded. ${problem.message}`;
    }
    banner.hidden = !banner.textContent;
    await refilter();
    refreshAll();
    // Running Plotly's file keeps the page busy for a second: only now, while the server reads the series.
    plotly().catch(() => {}); // who draws hears of a failure
  }

  view.listen(async (keys) => {
    toolbar.refresh();
    if (keys.includes("filter")) await refilter();
    if (keys.includes("off") || keys.includes("seeds")) sidebar.refresh();
    if (keys.includes("filter") || keys.includes("off")) refreshAll();
  });
  onTheme(() => {
    paint();
    sidebar.refresh();
    if (isShown()) panels.forEach((panel) => panel.redraw());
    else state.stale = true;
  });
  on("experimental.DataReloaded", reload);
  window.addEventListener("resize", () => state.stale && reload());

  paint();
  toolbar.refresh();
  fill(document.body, toolbar.node, element("div", {class: "page"}, sidebar.node, main), page.tooltip);
  reload();
}

/** Lets the other panels wait until the first one shows something. */
function firstFirst(first) {
  let open = null;
  const gate = new Promise((resolve) => { open = resolve; });
  return {
    turn: (id) => (id === first ? Promise.resolve() : gate),
    done: (id) => id === first && open(),
  };
}

function startPanels(page) {
  const panels = [];
  PANELS.forEach((panel, i) => {
    const next = (i + 1) % PANELS.length;
    const skip = {title: PANELS[next].title, go: () => panels[next].section.focus()};
    panels.push(startPanel(panel, page, skip));
  });
  return panels;
}

/** Runs with their colours; seeds that are drawn as one line have that line's, which is the first seed's. */
function coloured(runs, colours, asGroups) {
  const first = new Map();
  for (const run of runs) if (!first.has(run.group)) first.set(run.group, run);
  return runs.map((run) => ({...run, colour: colours.of(asGroups ? first.get(run.group) : run, isDark())}));
}

/** Runs in TensorBoard's order: that of the first of their members it lists. */
function inOrder(runs, order) {
  const place = new Map(order.map((name, i) => [name, i]));
  const of = (run) => Math.min(...[run.run, ...run.members].map((name) => place.get(name) ?? Infinity));
  return [...runs].sort((a, b) => of(a) - of(b) || a.run.localeCompare(b.run, "en", {numeric: true}));
}
