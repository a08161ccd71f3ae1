// Repetitions of one arm that differ only by their seed, as one mean line with a band.
//
// Runs are measured at different moments, so each is interpolated linearly to the moments of all; a run
// counts where it has been measured on both sides, never beyond its ends.

/** Lines `[{x, y}]` with increasing x -> {x, mean, low, high}; `band` is "range" or "deviation". */
export function meanLine(lines, band) {
  const x = [...new Set(lines.flatMap((line) => line.x.filter((_, i) => Number.isFinite(line.y[i]))))].sort((a, b) => a - b);
  const columns = lines.map((line) => interpolate(line, x));
  const mean = [];
  const low = [];
  const high = [];
  for (let i = 0; i < x.length; i += 1) {
    const values = columns.map((column) => column[i]).filter(Number.isFinite);
    const centre = average(values);
    const half = deviation(values);
    mean.push(centre);
    low.push(band === "range" ? Math.min(...values) : centre - half);
    high.push(band === "range" ? Math.max(...values) : centre + half);
  }
  return {x, mean, low, high};
}

export function average(values) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : NaN;
}

/** Standard deviation of a sample (n - 1); 0 of a single value. */
export function deviation(values) {
  if (values.length < 2) return 0;
  const centre = average(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1));
}

/** Linear interpolation of the finite points of a line at increasing `at`; NaN outside of them. */
export function interpolate(line, at) {
  const known = [...line.x.keys()].filter((i) => Number.isFinite(line.x[i]) && Number.isFinite(line.y[i]));
  let j = 0;
  return at.map((x) => {
    while (j + 1 < known.length && line.x[known[j + 1]] <= x) j += 1;
    const [left, right] = [known[j], known[j + 1]];
    if (left === undefined || x < line.x[left]) return NaN;
    if (x === line.x[left]) return line.y[left];
    if (right === undefined) return NaN;
    const share = (x - line.x[left]) / (line.x[right] - line.x[left]);
    return line.y[left] + share * (line.y[right] - line.y[left]);
  });
}
