// Sampling: the next id, drawn from the probabilities that scores give.

/**
 * The probability of each id: softmax(scores / temperature), among the likeliest alone.
 *
 * seen: a set of the ids in the text so far, whose scores are divided by the penalty where positive, else multiplied. temperature 0 takes
 * the likeliest. topK: how many may be drawn, of equal ones the first; topP: of these as few as together have this probability.
 */
export function probabilities(logits, seen, { temperature = 1, topK = Infinity, topP = 1, penalty = 1 } = {}) {
  const scores = Float64Array.from(logits);
  if (penalty !== 1) for (const id of seen) scores[id] *= scores[id] < 0 ? penalty : 1 / penalty;
  const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
  const best = order[0];
  if (temperature === 0) return scores.map((_, id) => (id === best ? 1 : 0));
  const p = scores.map((score) => Math.exp((score - scores[best]) / temperature));
  for (const id of order.slice(Math.min(topK, order.length))) p[id] = 0;
  if (topP < 1) {
    const all = p.reduce((a, b) => a + b, 0);
    let sum = 0;
    for (const id of order) {
      if (sum >= topP * all) p[id] = 0;
      sum += p[id];
    }
  }
  const all = p.reduce((a, b) => a + b, 0);
  return p.map((x) => x / all);
}

/** An id with these probabilities, for a number from 0 to 1. */
export function drawn(p, number) {
  let sum = 0, last = 0;
  for (let id = 0; id < p.length; id++) {
    if (!p[id]) continue;
    sum += p[last = id];
    if (number < sum) break;
  }
  return last;
}

/** Numbers from 0 to 1 that follow from a seed (mulberry32). */
export function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), 1 | state);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}
