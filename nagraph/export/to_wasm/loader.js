// nagraph.js: runs programs that nagraph has written for WebAssembly, in browsers and in Node.
//
//     import { load } from "./nagraph.js";
//     const model = await load(new URL("program.wasm", import.meta.url));
//     const { logits } = model.run({ pixels: new Float32Array(784) });
//
// Arrays are typed arrays, row-major; `model.inputs` and `model.outputs` tell their dtypes and shapes. An input of the state may be left
// out: it is what the last run has made of it, and zeros before the first.

const VERSION = 1;
const LINE = 64;
const PAGE = 1 << 16;
/** What a call returns for a label that is no class. */
const LABEL = 3;

/** The class of the typed arrays that hold a dtype: bools as 0 and 1, 16-bit floats by their bits. */
const ARRAYS = {
  bool: Uint8Array, i8: Int8Array, i16: Int16Array, i32: Int32Array, i64: BigInt64Array,
  u8: Uint8Array, u16: Uint16Array, u32: Uint32Array, u64: BigUint64Array,
  f16: Uint16Array, bf16: Uint16Array, f32: Float32Array, f64: Float64Array,
};

/** What is wrong with a program, or with what it was given: a sentence. */
export class NagraphError extends Error {
  name = "NagraphError";
}

/**
 * The program in a module: a URL, a path, or bytes.
 *
 * weights: where they are, if neither inside nor in `weights.safetensors` beside the module. fused: false never uses the engine's own
 * multiply-adds, which only takes longer.
 */
export async function load(source, { weights, fused = true } = {}) {
  const bytes = await read(source);
  const module = await compiled(bytes, "the module");
  const facts = section(module, "nagraph");
  if (!facts) throw new NagraphError("this WebAssembly module was not written by nagraph: it has no section that describes it");
  const described = JSON.parse(new TextDecoder().decode(facts));
  if (described.version !== VERSION)
    throw new NagraphError(`this module is of version ${described.version}, this loader reads ${VERSION}; take the loader beside the module`);
  const other = fused ? await ofFusedModule(module) : null;
  const { exports } = other ?? (await WebAssembly.instantiate(module, {}));
  const file = described.weights && (await read(weights ?? section(module, "nagraph.weights") ?? new URL("weights.safetensors", place(source))));
  return new Program({ ...described, fused: Boolean(other) }, exports, file);
}

/** A program in memory of its own. */
export class Program {
  #exports; #facts; #inputs; #outputs; #call;

  constructor(facts, exports, weights) {
    this.#exports = exports;
    this.#facts = facts;
    this.name = facts.name;
    this.metadata = facts.metadata;
    this.fused = facts.fused;
    this.inputs = Object.fromEntries(facts.inputs.map((x) => [x.name, about(x)]));
    this.outputs = Object.fromEntries(facts.outputs.map((x) => [x.name, about(x)]));
    let end = exports.__heap_base.value;
    const place = (bytes) => {
      const start = Math.ceil(end / LINE) * LINE;
      end = start + bytes;
      return start;
    };
    const placed = (x) => ({ ...x, at: place(size(x) * ARRAYS[x.dtype].BYTES_PER_ELEMENT) });
    const file = facts.weights ? place(weights.byteLength) : 0;
    this.#inputs = new Map(facts.inputs.map((x) => [x.name, placed(x)]));
    this.#outputs = new Map(facts.outputs.map((x) => [x.name, x.memory ? { ...x, at: this.#inputs.get(x.memory).at } : placed(x)]));
    const inputs = [...(file ? [file] : []), ...[...this.#inputs.values()].map((x) => x.at)];
    const outputs = [...this.#outputs.values()].map((x) => x.at);
    const [given, found, workspace] = [place(4 * inputs.length), place(4 * outputs.length), place(facts.workspace)];
    this.#grow(end);
    new Uint32Array(this.#buffer, given, inputs.length).set(inputs);
    new Uint32Array(this.#buffer, found, outputs.length).set(outputs);
    if (file) {
      new Uint8Array(this.#buffer, file, weights.byteLength).set(weights);
      if (!exports[facts.weights](file, weights.byteLength)) throw new NagraphError(`these are not the weights that ${this.name} was written with`);
    }
    this.#call = () => exports[facts.entry](given, found, workspace, facts.workspace, 0);
  }

  /** One call: typed arrays by the names of the inputs in, fresh ones by the names of the outputs out, those of the state left out. */
  run(given = {}) {
    for (const name of Object.keys(given))
      if (!this.#inputs.has(name)) throw new NagraphError(`${this.name} has no input ${JSON.stringify(name)}; it has ${names(this.#inputs)}`);
    const arrays = [];
    for (const [name, x] of this.#inputs) {
      if (given[name] !== undefined) arrays.push([x, converted(x, given[name])]);
      else if (!x.state) throw new NagraphError(`input ${JSON.stringify(name)} is missing: ${shown(x)}`);
    }
    for (const [x, array] of arrays) this.#view(x).set(array);
    const result = this.#call();
    if (result === LABEL) throw new NagraphError(`the call of ${this.name} ended: ${this.#facts.checks.join("; ")}, and one is not`);
    if (result) throw new NagraphError(`the call of ${this.name} ended with ${result}; its module is damaged`);
    return Object.fromEntries([...this.#outputs.values()].filter((x) => !x.state).map((x) => [x.name, this.#view(x).slice()]));
  }

  /** A copy of an input or output as it is in memory: of the state, what the last run has made. */
  get(name) {
    return this.#view(this.#known(name)).slice();
  }

  /** Put an input of the state, or all of it, back to zeros. */
  reset(name) {
    for (const x of name === undefined ? [...this.#inputs.values()].filter((x) => x.state) : [this.#known(name)]) this.#view(x).fill(ZERO(x));
  }

  #known(name) {
    const found = this.#outputs.get(name) ?? this.#inputs.get(name);
    if (!found)
      throw new NagraphError(`${this.name} has no input or output ${JSON.stringify(name)}; it has ${names(this.#inputs)}, ${names(this.#outputs)}`);
    return found;
  }

  #view(x) {
    return new ARRAYS[x.dtype](this.#buffer, x.at, size(x));
  }

  get #buffer() {
    return this.#exports.memory.buffer;
  }

  #grow(end) {
    const missing = Math.ceil((end - this.#buffer.byteLength) / PAGE);
    try {
      if (missing > 0) this.#exports.memory.grow(missing);
    } catch {
      throw new NagraphError(`${this.name} needs ${Math.ceil(end / 2 ** 20)} MB of memory, more than this engine gives`);
    }
  }
}

// -- arrays -----------------------------------------------------------------------------------------------

/** What a caller gave for an input, as a typed array of its dtype. */
function converted(x, given) {
  const Kind = ARRAYS[x.dtype], count = size(x);
  if (given instanceof Kind) {
    if (given.length !== count) throw unfit(x, `one of ${given.length}`);
    return given;
  }
  if (ArrayBuffer.isView(given)) throw unfit(x, `${article(given.constructor.name)} of ${given.length ?? given.byteLength}`);
  const list = (Array.isArray(given) ? given : [given]).flat(Infinity);
  if (list.length !== count) throw unfit(x, `${list.length} numbers`);
  if (x.dtype === "f16" || x.dtype === "bf16") throw unfit(x, "numbers, of which JavaScript makes no 16-bit floats: give their bits");
  return Kind.from(list, (n) => element(x, n));
}

/** One number of a list, as the elements of its array are written. */
function element(x, n) {
  if (x.dtype === "bool" && typeof n === "boolean") return n ? 1 : 0;
  const number = typeof n === "number" || typeof n === "bigint";
  if (x.dtype[0] === "f") {
    if (!number) throw unfit(x, `${JSON.stringify(n) ?? typeof n} among them`);
    return Number(n);
  }
  if (!number || (typeof n === "number" && !Number.isInteger(n))) throw unfit(x, `${typeof n === "number" ? n : JSON.stringify(n) ?? typeof n} among them`);
  const bits = x.dtype === "bool" ? 1n : BigInt(x.dtype.slice(1));
  const signed = x.dtype[0] === "i", whole = BigInt(n);
  if (whole < (signed ? -(1n << (bits - 1n)) : 0n) || whole >= 1n << (signed ? bits - 1n : bits)) throw unfit(x, `${n} among them`);
  return ARRAYS[x.dtype].BYTES_PER_ELEMENT === 8 ? whole : Number(whole);
}

const ZERO = (x) => (ARRAYS[x.dtype].BYTES_PER_ELEMENT === 8 && x.dtype !== "f64" ? 0n : 0);
const size = (x) => x.shape.reduce((a, b) => a * b, 1);
const shown = (x) => `${x.dtype}[${x.shape.join(", ")}]`;
const about = (x) => ({ dtype: x.dtype, shape: x.shape, state: Boolean(x.state) });
const names = (map) => [...map.keys()].join(", ") || "none";
const article = (noun) => `${/^[AEIOU]/.test(noun) ? "an" : "a"} ${noun}`;
const unfit = (x, got) =>
  new NagraphError(`input ${JSON.stringify(x.name)} is ${shown(x)}: give ${article(ARRAYS[x.dtype].name)} of ${size(x)}, got ${got}`);

// -- modules ----------------------------------------------------------------------------------------------

/** The instance of the module with the engine's own multiply-adds, if this engine has them and rounds them once. */
async function ofFusedModule(module) {
  const bytes = section(module, "nagraph.fused");
  if (!bytes || !WebAssembly.validate(bytes)) return null;
  const { instance } = await WebAssembly.instantiate(bytes, {});
  return instance.exports.fuses() ? instance : null;
}

async function compiled(bytes, what) {
  try {
    return await WebAssembly.compile(bytes);
  } catch (error) {
    throw new NagraphError(`${what} can't be used, it is damaged or this engine has no WebAssembly with SIMD: ${error.message}`);
  }
}

const section = (module, name) => {
  const [found] = WebAssembly.Module.customSections(module, name);
  return found ? new Uint8Array(found) : undefined;
};

// -- files ------------------------------------------------------------------------------------------------

/** The bytes at a URL or path, or bytes as they are. */
async function read(source) {
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  const url = place(source);
  try {
    if (url.protocol === "file:" && globalThis.process?.versions?.node) return await (await import("node:fs/promises")).readFile(url);
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
    return new Uint8Array(await answer.arrayBuffer());
  } catch (error) {
    throw new NagraphError(`${url} can't be read: ${error.message}`);
  }
}

/** A URL or path as a URL: relative ones from the page, or from the folder that Node runs in. */
function place(source) {
  if (source instanceof URL) return source;
  if (typeof source !== "string") throw new NagraphError("a program is a URL, a path, or bytes; weights that are not inside of these bytes are given");
  return new URL(source, globalThis.document?.baseURI ?? (globalThis.process ? `file://${globalThis.process.cwd()}/` : globalThis.location?.href));
}
