// TensorBoard imports this file and calls render().
//
// It imports nothing, so that Plotly, 5 MB and the slowest part of opening the tab, is on its way before the files
// of the page are.

const HEAD = [
  ["link", {rel: "stylesheet", href: "./static/style.css"}],
  ["link", {rel: "preload", as: "script", href: "./plotly.min.js"}],
  ["script", {type: "module", src: "./static/start.js"}],
];

/** Loads the page into this document. */
export function render() {
  for (const [tag, attributes] of HEAD) document.head.append(Object.assign(document.createElement(tag), attributes));
}
