// What the reader chose, as a flat map of strings: "x", "filter", "sharpness.measure", "zoom.gap" ... It
// lives in the address, so that a link opens the same view; what equals its default is left out of it.

import {hostDefaults, onAddress, readAddress, writeAddress} from "./host.js";

const DEFAULTS = {
  filter: "", // regular expression over run names
  off: "", // JSON list of runs without tick
  x: "updates", // updates, epochs, examples, seconds
  xscale: "linear", // linear, log
  smoothing: "0", // weight of TensorBoard's moving average, 0 to 0.999
  seeds: "separate", // separate, range (mean, min to max), deviation (mean ± standard deviation)
};
const SECONDS_TO_WRITE = 0.2;

export function openView() {
  const defaults = {...DEFAULTS, ...hostDefaults()};
  let chosen = readAddress();
  let unwritten = {};
  let timer = null;
  const listeners = [];

  const tell = (keys) => listeners.forEach((listener) => listener(keys));
  const write = () => {
    timer = null;
    writeAddress(unwritten);
    unwritten = {};
  };

  onAddress(() => {
    if (timer !== null) return; // our own change is still on its way
    const before = chosen;
    chosen = readAddress();
    const keys = [...new Set([...Object.keys(before), ...Object.keys(chosen)])].filter((key) => before[key] !== chosen[key]);
    if (keys.length) tell(keys);
  });

  return {
    get: (key, fallback = "") => chosen[key] ?? defaults[key] ?? fallback,
    /** Sets several at once; listeners hear the keys that changed. A value of null takes the key away. */
    set(changes) {
      const keys = Object.keys(changes).filter((key) => (chosen[key] ?? null) !== changes[key]);
      if (!keys.length) return;
      for (const key of keys) {
        const value = changes[key] === (defaults[key] ?? null) ? null : changes[key];
        if (value === null) delete chosen[key];
        else chosen[key] = value;
        unwritten[key] = value ?? "";
      }
      clearTimeout(timer);
      timer = setTimeout(write, 1000 * SECONDS_TO_WRITE);
      tell(keys);
    },
    listen: (listener) => listeners.push(listener),
  };
}

/** The runs without tick, as a set of names. */
export function hiddenRuns(view) {
  try {
    const names = JSON.parse(view.get("off") || "[]");
    return new Set(Array.isArray(names) ? names : []);
  } catch {
    return new Set();
  }
}
