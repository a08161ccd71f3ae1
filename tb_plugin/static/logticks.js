// Ticks of logarithmic axes in plain numbers: Plotly writes a lone "2" or "5" between powers of ten, which
// reads like the number 2.

const MOST = 7;

/** {tickvals, ticktext} for an axis from `low` to `high`, both above 0. */
export function logTicks(low, high) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const within = (digits, stride) => {
    const ticks = [];
    for (let exponent = first; exponent <= last; exponent += 1) {
      if (exponent % stride) continue;
      for (const digit of digits) {
        const tick = Number(`${digit}e${exponent}`);
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
      }
    }
    return ticks;
  };
  const fine = [[[1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], 1], [[1, 2, 3, 5, 7], 1], [[1, 2, 5], 1], [[1, 3], 1], [[1], 1], [[1], 2], [[1], 3], [[1], 5], [[1], 10]];
  const chosen = fine.map(([digits, stride]) => within(digits, stride)).find((ticks) => ticks.length <= MOST) || [];
  // Less than a few round values in view: leave it to Plotly.
  return chosen.length < 2 ? {} : {tickvals: chosen, ticktext: chosen.map(tickText)};
}

/** 0.01, 5, 2,000, 10^7. */
export function tickText(value) {
  const exponent = Math.floor(Math.log10(Math.abs(value)) + 1e-9);
  if (exponent >= -3 && exponent <= 5) return value.toLocaleString("en-US", {maximumSignificantDigits: 3});
  const digit = Number((value / 10 ** exponent).toPrecision(2));
  return `${digit === 1 ? "" : `${digit}·`}10<sup>${String(exponent).replace("-", "−")}</sup>`;
}

/** The least and greatest value (above 0 for a log axis) that traces have on an axis ("xaxis2"), null without any. */
export function extentOf(traces, name, log) {
  const letter = name[0];
  const id = name.replace("axis", "");
  let [low, high] = [Infinity, -Infinity];
  for (const trace of traces) {
    if ((trace[`${letter}axis`] || letter) !== id) continue;
    for (const value of trace[letter] || []) {
      if (value === null || !Number.isFinite(value) || (log && value <= 0)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low <= high ? [low, high] : null;
}
