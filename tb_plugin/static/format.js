// How numbers and names are written on the page.

const PLAIN = new Intl.NumberFormat("en-US", {maximumSignificantDigits: 4});
const WHOLE = new Intl.NumberFormat("en-US", {maximumFractionDigits: 0});

/** A measured number, four digits: 12.35, 0.001235, 1.235e-7; "–" for none. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2).replace("e+", "e").replace("-", "−");
  if (size >= 1e4) return WHOLE.format(value).replace("-", "−");
  return PLAIN.format(value).replace("-", "−");
}

/** A count, with thousands: 12,800. */
export function count(value) {
  return WHOLE.format(value);
}

/** "1 point", "3 points". */
export function several(num, noun) {
  return `${count(num)} ${noun}${num === 1 ? "" : "s"}`;
}

/** A name cut in its middle, so that runs that differ at their ends stay apart. */
export function cut(name, length = 48) {
  if (name.length <= length) return name;
  const head = Math.ceil((length - 1) / 2);
  return `${name.slice(0, head)}…${name.slice(name.length - (length - 1 - head))}`;
}

/** Text for Plotly, which reads a little HTML in its texts: hand it the characters instead. */
export function plain(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** The last part of a tag in words: "sharpness/top_eigenvalue" -> "Top eigenvalue". */
export function words(tag) {
  const last = tag.split("/").pop().replace(/_/g, " ").trim() || tag;
  return last.charAt(0).toUpperCase() + last.slice(1);
}

/** Numbers that travelled as JSON: "NaN", "Infinity" and "-Infinity" are strings there, null is no number. */
export function numbers(values) {
  return values.map((value) => (typeof value === "number" ? value : value === null ? NaN : Number(value)));
}
