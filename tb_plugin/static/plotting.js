// Plotly: loading it once, drawing, and pictures of what is drawn.

const CONFIG = {displayModeBar: false, displaylogo: false, doubleClick: false, responsive: false, showTips: false};
let loading = null;

/** Plotly, from the server that also serves this page; a report has it already. */
export function plotly() {
  if (window.Plotly) return Promise.resolve(window.Plotly);
  loading = loading || new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "./plotly.min.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("plotly.min.js did not load. Is the Python package plotly installed?"));
    document.head.append(script);
  });
  return loading;
}

export async function draw(node, figure) {
  const library = await plotly();
  await library.react(node, figure.data, figure.layout, CONFIG);
}

/** Forgets a drawing, to give its memory back. */
export function erase(node) {
  if (window.Plotly && node.data) window.Plotly.purge(node);
}

/** A data URL of the figure as "svg" or "png", with the legend that the list of runs is on the page. */
export async function picture(figure, format, title) {
  const library = await plotly();
  const {layout} = figure;
  const names = new Set(figure.data.filter((trace) => trace.showlegend).map((trace) => trace.name));
  const rows = Math.ceil(names.size / Math.max(1, Math.floor(layout.width / 180)));
  const room = names.size ? 34 + 20 * rows : 0;
  const head = 34;
  const height = layout.height + room + head;
  const margin = {...layout.margin, t: layout.margin.t + head, b: layout.margin.b + room};
  const inner = layout.height - layout.margin.t - layout.margin.b;
  const legend = {orientation: "h", x: 0, y: -(layout.margin.b + 6) / inner, yanchor: "top", font: {size: 11}};
  const heading = {text: title, x: layout.margin.l / layout.width, xanchor: "left", y: 1 - 16 / height, yanchor: "middle", font: {size: 15, color: layout.annotations[0]?.font.color}};
  const full = {...layout, height, margin, showlegend: names.size > 0, legend, title: heading};
  return library.toImage({data: figure.data, layout: full, config: CONFIG}, {format, width: layout.width, height, scale: format === "png" ? 2 : 1});
}
