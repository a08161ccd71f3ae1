// TensorBoard imports this file and calls render().

import {openPage} from "./page.js";

/** Opens the page in this document, with the style sheet that a report has inlined. */
export function render() {
  const style = document.createElement("link");
  style.rel = "stylesheet";
  style.href = "./static/style.css";
  document.head.append(style);
  openPage();
}
