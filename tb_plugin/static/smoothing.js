// TensorBoard's smoothing: an exponential moving average whose start is corrected (as in Adam), so that
// the first points are not pulled to zero. Values that are not finite stay as they are.

/** `values` smoothed with `weight` in [0, 1); 0 leaves them alone. Constant values stay constant exactly. */
export function smooth(values, weight) {
  if (weight <= 0) return values;
  let last = 0;
  let numSeen = 0;
  const first = values.find(Number.isFinite);
  const constant = values.every((value) => value === first);
  return values.map((value) => {
    if (!Number.isFinite(value) || constant) return value;
    last = last * weight + (1 - weight) * value;
    numSeen += 1;
    return last / (1 - weight ** numSeen);
  });
}
