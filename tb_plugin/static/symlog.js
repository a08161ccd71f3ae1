// The symmetric logarithmic axis: Hessian spectra have eigenvalues of both signs over many decades. Plotly
// has no such axis, so values are mapped, and ticks written at round values.

/** sign(v) log10(1 + |v| / threshold): linear near 0, logarithmic beyond the threshold. */
export function symlog(value, threshold) {
  return Math.sign(value) * Math.log10(1 + Math.abs(value) / threshold);
}

/** Ticks for values from `low` to `high`: 0 and powers of ten of either sign, thinned to about `most`. */
export function symlogTicks(low, high, threshold, most = 9) {
  const first = Math.ceil(Math.log10(threshold));
  const decades = (limit) => Math.max(0, Math.floor(Math.log10(Math.max(limit, threshold))) - first + 1);
  const [up, down] = [decades(high), decades(-low)];
  const stride = Math.max(1, Math.ceil((up + down) / (most - 1)));
  const ticks = [0];
  // Count from the outside, so that the largest decade always has its tick.
  for (let i = up - 1; i >= 0; i -= stride) ticks.push(10 ** (first + i));
  for (let i = down - 1; i >= 0; i -= stride) ticks.push(-(10 ** (first + i)));
  const shown = ticks.filter((tick) => tick >= low && tick <= high).sort((a, b) => a - b);
  return {tickvals: shown.map((tick) => symlog(tick, threshold)), ticktext: shown.map(powerOfTen)};
}

function powerOfTen(value) {
  if (value === 0) return "0";
  const sign = value < 0 ? "−" : "";
  const exponent = Math.round(Math.log10(Math.abs(value)));
  if (exponent >= -2 && exponent <= 4) return sign + String(Math.abs(Number(value.toPrecision(1))));
  return `${sign}10<sup>${exponent}</sup>`;
}
