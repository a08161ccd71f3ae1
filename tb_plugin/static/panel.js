// A panel at work: when it is seen it loads, draws, and follows what the reader chooses.
//
// A panel's file says what to load and how data becomes a figure; all that moves is here.

import {makeCard} from "./card.js";
import {optionsOf, panelControls} from "./controls.js";
import {saveNumbers, savePicture, saveText} from "./exports.js";
import {isShown} from "./host.js";
import {cellText, tableCsv} from "./panels/compare.js";
import {draw} from "./plotting.js";
import {showTable} from "./table.js";
import {attachTooltip} from "./tooltip.js";
import {parseZoom, zoomAfter, zoomText} from "./zoom.js";

const GLOBAL = ["x", "xscale", "smoothing", "seeds"]; // what every panel follows
const REDRAW_MS = 300; // at least, between drawings while groups of runs arrive

/**
 * Starts a panel. `page` = {view, store, runs(): the visible runs with colours, allRuns(), isReady(): whether the runs are
 * known, isDark(), tooltip: its box, turn(id): a promise to wait for before loading, done(id): to say that something is drawn}.
 * Returns {section, refresh(), redraw()}.
 */
export function startPanel(panel, page, skip) {
  const {view, store} = page;
  const controls = panelControls(panel, view);
  const zoomKey = `zoom.${panel.id}`;
  const setZoom = (zoom) => view.set({[zoomKey]: zoomText(zoom) || null});
  const card = makeCard(panel, {controls: controls.nodes, exportAs, resetZoom: () => setZoom({}), skip});
  let [data, figure, loading, seen, dirty, tooltip] = [null, null, null, false, true, null];

  const ask = () => ({
    runs: page.runs(), option: optionsOf(panel, view), x: view.get("x"), zoom: parseZoom(view.get(zoomKey)),
  });
  const look = () => ({
    ...ask(), dark: page.isDark(), width: Math.floor(card.section.clientWidth - 32), xscale: view.get("xscale"),
    smoothing: Math.min(0.999, Math.max(0, Number(view.get("smoothing")) || 0)), seeds: view.get("seeds"),
  });

  async function refresh() {
    dirty = true;
    if (!seen || !isShown() || !page.isReady()) return;
    dirty = false;
    if (loading) loading.abort();
    const mine = new AbortController();
    loading = mine;
    const asked = ask();
    const able = asked.runs.filter(panel.has);
    if (!able.length) return void showEmpty(asked);
    controls.refresh({...asked, runs: able}, null);
    card.setBusy(true);
    await page.turn(panel.id);
    if (mine.signal.aborted) return;
    try {
      await load({...asked, runs: able, signal: mine.signal}, mine);
    } catch (problem) {
      if (problem.name === "AbortError" || mine.signal.aborted) return;
      card.setErrors([{message: problem.message}]);
      if (!figure) card.setEmpty("This panel could not be loaded.");
    }
    if (loading === mine) card.setBusy(false);
    page.done(panel.id);
  }

  async function load(asked, mine) {
    let next = 0; // when to draw again: drawing should take no more than a third of the time
    for await (const part of panel.load(store, asked)) {
      if (mine.signal.aborted) return;
      data = part;
      const start = performance.now();
      if (start < next) continue;
      await redraw();
      next = performance.now() + Math.max(REDRAW_MS, 2 * (performance.now() - start));
    }
    if (!mine.signal.aborted) await redraw();
  }

  function showEmpty(asked) {
    [data, figure] = [null, null];
    page.done(panel.id);
    card.setErrors([]);
    card.setBusy(false);
    const hidden = page.allRuns().some(panel.has) && !asked.runs.some(panel.has);
    if (hidden) card.setEmpty("The runs that have data for this panel are not ticked, or not matched by the filter.");
    else card.setEmpty(panel.empty.text, panel.empty.code);
    controls.refresh(asked, null);
  }

  async function redraw() {
    if (!data || !isShown() || !seen) return;
    const now = look();
    const colours = new Map(now.runs.map((run) => [run.run, run.colour]));
    // Colours change with the theme: take those of now.
    const fresh = {...data, runs: data.runs.map((run) => ({...run, colour: colours.get(run.run) || run.colour}))};
    figure = panel.figure(recoloured(fresh, colours), now);
    controls.refresh({...now, runs: fresh.runs}, data);
    card.setUnit(panel.unit({...now, runs: fresh.runs}));
    card.setZoomed(Object.keys(now.zoom).length > 0);
    card.setErrors(data.errors || []);
    card.setDrawn(figure, Boolean(panel.table));
    if (panel.table) drawTable(fresh, now);
    if (figure.data.length || !panel.table) await draw(card.plot, figure);
    page.done(panel.id);
    if (!tooltip) listenToPlot();
  }

  function drawTable(fresh, now) {
    const sortBy = (key) => {
      const flip = now.option.sort === key && now.option.order === "up" ? "down" : "up";
      view.set({[`${panel.id}.sort`]: key, [`${panel.id}.order`]: flip === "up" ? null : flip});
    };
    showTable(card.table, panel.table(fresh, now), {sort: now.option.sort, order: now.option.order, sortBy, cellText, caption: panel.title});
  }

  function listenToPlot() {
    tooltip = attachTooltip(card.plot, page.tooltip, () => (panel.axis ? panel.axis(look()) : "position"));
    card.plot.on("plotly_relayout", (event) => {
      const before = parseZoom(view.get(zoomKey));
      const after = zoomAfter(before, event, figure.layout);
      if (zoomText(before) !== zoomText(after)) setZoom(after);
    });
    card.plot.on("plotly_doubleclick", () => setZoom({}));
    card.stage.addEventListener("keydown", onKey);
    card.stage.addEventListener("blur", () => tooltip.hide());
  }

  // Arrows walk through the figure, + and - zoom along x around the walker, 0 resets.
  let place = 0.5;
  function onKey(event) {
    const move = {ArrowLeft: -0.02, ArrowRight: 0.02}[event.key];
    const factor = {"+": 0.5, "=": 0.5, "-": 2}[event.key];
    if (move) place = Math.min(1, Math.max(0, place + move));
    else if (factor) setZoom({...parseZoom(view.get(zoomKey)), xaxis: zoomedRange(factor)});
    else if (event.key === "0") setZoom({});
    else if (event.key === "Escape") return tooltip.hide();
    else return undefined;
    event.preventDefault();
    return move ? tooltip.showAt(place) : tooltip.hide();
  }

  function zoomedRange(factor) {
    const axis = card.plot._fullLayout.xaxis;
    const [low, high] = axis.range.map(Number);
    const centre = low + place * (high - low);
    const ends = [centre + (low - centre) * factor, centre + (high - centre) * factor];
    return axis.type === "log" ? ends.map((end) => 10 ** end) : ends;
  }

  async function exportAs(format) {
    const name = `lbgap-${panel.id}`;
    const asked = ask();
    if (format === "svg" || format === "png") return savePicture(figure, format, panel.title, name);
    if (panel.table && format === "csv") return saveText(tableCsv(panel.table(data, look())), "text/csv", `${name}.csv`);
    if (panel.table) return saveText(JSON.stringify(data.rows), "application/json", `${name}.json`);
    const runs = (panel.exported ? panel.exported(asked) : asked.runs).map((run) => run.run);
    const all = runs.length === page.allRuns().length;
    return saveNumbers(store, format, all ? [] : runs, panel.tags(asked), name, data.series || []);
  }

  view.listen((keys) => {
    if (keys.some((key) => key === zoomKey || key === "x" || (key.startsWith(`${panel.id}.`) && !isOrder(panel, key)))) refresh();
    else if (keys.some((key) => GLOBAL.includes(key) || isOrder(panel, key))) redraw();
  });
  new IntersectionObserver(([entry]) => {
    seen = seen || entry.isIntersecting;
    if (entry.isIntersecting && dirty) refresh();
  }, {rootMargin: "200px"}).observe(card.section);
  let width = 0;
  new ResizeObserver(() => {
    if (card.section.clientWidth === width || !isShown()) return;
    width = card.section.clientWidth;
    if (dirty) refresh();
    else redraw();
  }).observe(card.section);

  return {section: card.section, refresh, redraw};
}

const isOrder = (panel, key) => key === `${panel.id}.sort` || key === `${panel.id}.order`;

/** Data whose parts carry runs of their own (spectra, planes), with the colours of now. */
function recoloured(data, colours) {
  const paint = (list) => list && list.map((one) => (one.run && one.run.run ? {...one, run: {...one.run, colour: colours.get(one.run.run) || one.run.colour}} : one));
  return {...data, ...(data.sides && {sides: paint(data.sides)}), ...(data.lines && {lines: paint(data.lines), planes: paint(data.planes)})};
}
