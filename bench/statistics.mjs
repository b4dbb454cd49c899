// Medians and ratios. Only ratios within one interleaved run mean anything on a shared machine.
export function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)];
  const high = sorted[Math.ceil(at)];
  return low + (high - low) * (at - Math.floor(at));
}

export const median = values => percentile(values, 0.5);

/** Median over the rounds of a's figure divided by b's of the same round. */
export const ratio = (a, b) => median(a.map((value, round) => value / b[round]));

export function shuffle(list) {
  const order = [...list];
  for (let at = order.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    [order[at], order[other]] = [order[other], order[at]];
  }
  return order;
}
