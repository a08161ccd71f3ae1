// The page around the tab. Inside TensorBoard that is TensorBoard: it tells of reloads through a message
// channel, and its theme and address are read from the parent document, which has the same origin. Alone
// (plugin_entry.html, a report) there is none of it: every access falls back to our own window.
//
// The messages are TensorBoard's `experimental.bootstrap` protocol. Its GetURLPluginData answers {} on the
// first load of a page, hence the address is read directly.

const PREFIX = "p.lbgap.";
const listeners = new Map();

/** Opens the message channel; `on(type, callback)` hears what TensorBoard says. */
export function connect() {
  if (window.parent === window) return;
  const channel = new MessageChannel();
  channel.port1.onmessage = async ({data}) => {
    const message = JSON.parse(data);
    if (message.isReply) return;
    let error = null;
    try {
      if (listeners.has(message.type)) await listeners.get(message.type)(message.payload);
    } catch (problem) {
      error = String(problem);
    }
    // TensorBoard waits for an answer to everything it sends.
    channel.port1.postMessage(JSON.stringify({type: message.type, id: message.id, payload: null, error, isReply: true}));
  };
  window.parent.postMessage("experimental.bootstrap", "*", [channel.port2]);
}

export function on(type, callback) {
  listeners.set(type, callback);
}

function parentWindow() {
  try {
    return window.parent !== window && window.parent.document ? window.parent : null;
  } catch {
    return null; // another origin: a notebook that proxies only the frame
  }
}

/** Whether the page around us is dark. */
export function isDark() {
  const outer = parentWindow();
  if (outer && outer.document.querySelector("tb-webapp")) return outer.document.body.classList.contains("dark-mode");
  return window.matchMedia("(prefers-color-scheme: dark)").matches;
}

export function onTheme(callback) {
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", callback);
  const outer = parentWindow();
  if (outer) new MutationObserver(callback).observe(outer.document.body, {attributes: true, attributeFilter: ["class"]});
}

/**
 * The rules with which the page around us loads a font family, with full addresses; none if it did not load, as under
 * a path prefix, which TensorBoard's own rules forget.
 */
export function hostFont(family) {
  const outer = parentWindow();
  if (!outer || ![...outer.document.fonts].some((font) => font.status === "loaded" && font.family.includes(family))) return "";
  const rules = [...outer.document.styleSheets].flatMap((sheet) => {
    try {
      return [...sheet.cssRules];
    } catch {
      return []; // a sheet of another host
    }
  });
  const wanted = rules.filter((rule) => rule instanceof outer.CSSFontFaceRule && rule.style.getPropertyValue("font-family").includes(family));
  const full = (_, quoted) => `url("${new URL(quoted, outer.location.href).href}")`;
  return wanted.map((rule) => rule.cssText.replace(/url\("?([^")]+)"?\)/g, full)).join("\n");
}

/** Our part of the address: {key: value} of what stands there as p.lbgap.<key>. */
export function readAddress() {
  const outer = parentWindow() || window;
  const found = {};
  for (const part of outer.location.hash.slice(1).split("&")) {
    const [key, value = ""] = part.split("=");
    if (!key.startsWith(PREFIX)) continue;
    try {
      found[key.slice(PREFIX.length)] = decodeURIComponent(value);
    } catch {
      // a broken escape in an address typed by hand: as if it were not there
    }
  }
  return found;
}

/** What TensorBoard's own deep links ask for, as first defaults: ?runFilter= and ?smoothing=. */
export function hostDefaults() {
  const query = new URLSearchParams((parentWindow() || window).location.search);
  const defaults = {};
  if (query.get("runFilter")) defaults.filter = query.get("runFilter");
  if (query.get("smoothing")) defaults.smoothing = query.get("smoothing");
  return defaults;
}

/** Writes {key: value or ""} to the address without a step in the history. */
export function writeAddress(changes) {
  const outer = parentWindow() || window;
  const storage = outer.tensorboard && outer.tensorboard.tf_storage;
  try {
    for (const [key, value] of Object.entries(changes)) {
      storage.setString(PREFIX + key, value, {defaultValue: "", useLocationReplace: true});
    }
  } catch {
    rewriteHash(outer, changes); // no TensorBoard around us, or one without its old storage
  }
}

function rewriteHash(outer, changes) {
  const mine = new Set(Object.keys(changes).map((key) => PREFIX + key));
  const kept = outer.location.hash.slice(1).split("&").filter((part) => part && !mine.has(part.split("=")[0]));
  const added = Object.entries(changes).filter(([, value]) => value !== "");
  const parts = [...kept, ...added.map(([key, value]) => `${PREFIX}${key}=${encodeURIComponent(value)}`)];
  // Spelled out: a bare "#..." would be relative to the page's <base>.
  const address = `${outer.location.pathname}${outer.location.search}#${parts.join("&")}`;
  try {
    outer.history.replaceState(outer.history.state, "", address);
  } catch {
    outer.location.replace(address);
  }
}

/** Calls back when somebody else changes the address: a link pasted, the back button. */
export function onAddress(callback) {
  const outer = parentWindow() || window;
  outer.addEventListener("hashchange", callback);
  // The parent outlives this frame.
  window.addEventListener("pagehide", () => outer.removeEventListener("hashchange", callback));
}

/** Whether anybody can see us: TensorBoard keeps the frame of a tab that was left, at height 0. */
export function isShown() {
  return window.innerHeight > 0;
}
