// Making elements. Text always enters as text nodes, never as markup: run and tag names come from
// files that anyone may have written.

/** An element; `attributes` whose name begins with "on" are listeners, `null` and `false` are left out. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Replaces what `node` holds. */
export function fill(node, ...children) {
  node.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A select with its label. `choose` gets the value picked. */
export function choice(label, choose) {
  const select = element("select", {onchange: () => choose(select.value)});
  const box = element("label", {class: "control"}, element("span", {}, label), select);
  return {box, select};
}

/** Gives a select its options, `[{value, text}]`, without closing it when nothing changed. */
export function offer(select, options, value) {
  const key = JSON.stringify(options);
  if (select.dataset.offered !== key) {
    select.dataset.offered = key;
    fill(select, ...options.map((option) => element("option", {value: option.value}, option.text)));
  }
  select.value = value;
}

let numIds = 0;

/** A fresh id, for aria-labelledby and friends. */
export function freshId(stem) {
  numIds += 1;
  return `${stem}-${numIds}`;
}
