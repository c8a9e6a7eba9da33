// The writer: one id after another, each read once. It runs in a worker, so that the page stays awake.

/** The scores of the id after a window of ids, of which only what the cache does not hold is read. */
export class Reader {
  #program; #ids; #start; #read = [];

  constructor(program, { ids, start }) {
    this.#program = program;
    [this.#ids, this.#start] = [ids, start];
  }

  scores(window) {
    let known = 0;
    while (known < window.length - 1 && window[known] === this.#read[known]) known++;
    let found;
    for (let at = known; at < window.length; at++) found = this.#program.run({ [this.#ids]: [window[at]], [this.#start]: at }).logits;
    this.#read = [...window];
    return found;
  }
}

/** Ids after `ids`, without end: each with its probability and the likeliest ones, and the milliseconds that it took. */
export function* written(reader, ids, context, sampling, random) {
  const seen = new Set(ids);
  let window = ids.slice(-context);
  for (;;) {
    const began = performance.now();
    if (window.length > context) window = window.slice(-Math.max(1, context >> 1));
    const p = probabilities(reader.scores(window), seen, sampling);
    const id = drawn(p, random());
    seen.add(id);
    window.push(id);
    const likeliest = Array.from(p.keys()).sort((a, b) => p[b] - p[a]).slice(0, 8).map((i) => [i, p[i]]);
    yield { id, p: p[id], likeliest, ms: performance.now() - began };
  }
}

/** How long a worker writes before it looks whether it is to stop. */
const TURN_MS = 12;

/** Answers messages: `load` with the program, then `write` with a prompt, and `stop`. */
export function serve(port) {
  let reader, facts, current = 0;
  const rest = () => new Promise((go) => setTimeout(go));
  const say = { load, write, stop: async () => void current++ };

  async function load({ program, ...about }) {
    facts = about;
    const found = await loadProgram(program);
    reader = new Reader(found, facts);
    port.postMessage({ ready: true, fused: found.fused });
  }

  async function write({ ids, count, sampling, seed, number }) {
    const mine = ++current;
    let began = performance.now(), some = [];
    for (const token of written(reader, ids, facts.context, sampling, randomNumbers(seed))) {
      some.push(token);
      const last = --count <= 0;
      if (last || performance.now() - began > TURN_MS) {
        port.postMessage({ number, tokens: some, last });
        if (last) return;
        some = [];
        await rest();
        if (mine !== current) return;
        began = performance.now();
      }
    }
  }

  port.onmessage = ({ data }) => say[data.say](data).catch((error) => port.postMessage({ number: data.number, error: error.message }));
}
