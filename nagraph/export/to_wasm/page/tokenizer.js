// Tokenizers: text to token ids and back, from the description that a run keeps of its own (`to_json`).

/** Why a text can't be written in tokens: a sentence. */
export class TokenError extends Error {}

/** The tokenizer of a description: `encode(text)`, `decode(ids)`, and `reader()`, a function of one id after another to what can be shown. */
export function tokenizerOf(described) {
  if (described.kind === "characters") return new Characters(described.symbols);
  if (described.kind === "bytes") return new Bytes();
  if (described.kind === "byte-pairs") return new BytePairs(described.tokenizer);
  throw new TokenError(`a tokenizer of kind ${described.kind} is not known; there is characters, bytes, byte-pairs`);
}

class Characters {
  constructor(symbols) {
    this.symbols = [...symbols];
    this.ids = new Map(this.symbols.map((s, id) => [s, id]));
  }

  get size() {
    return this.symbols.length;
  }

  encode(text) {
    const unknown = [...new Set(text)].filter((s) => !this.ids.has(s)).sort().slice(0, 8);
    if (unknown.length)
      throw new TokenError(`The model does not know ${unknown.map((s) => JSON.stringify(s)).join(" ")}: it was trained on a text without.`);
    return Array.from(text, (s) => this.ids.get(s));
  }

  decode(ids) {
    return ids.map((id) => this.symbols[id]).join("");
  }

  reader() {
    return (id) => this.symbols[id];
  }
}

/** Tokens that are bytes of UTF-8, one or more; what is no character becomes U+FFFD. */
class OfBytes {
  decode(ids) {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(joined(ids.map((id) => this.bytes(id))));
  }

  /** A character shows when its last byte has come. */
  reader() {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return (id) => decoder.decode(this.bytes(id), { stream: true });
  }
}

class Bytes extends OfBytes {
  size = 256;

  encode(text) {
    return Array.from(new TextEncoder().encode(text));
  }

  bytes(id) {
    return Uint8Array.of(id);
  }
}

const SPACE = "\\p{White_Space}";
/** How GPT-2 cuts a text into words, with the white space of Unicode in the place of JavaScript's own. */
const WORDS = `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|${SPACE}+(?!\\P{White_Space})|${SPACE}+`;

/** Byte-level BPE as a tokenizer.json describes it: words, whose bytes are merged pair by pair, the earliest learnt pair first. */
class BytePairs extends OfBytes {
  #ranks; #vocabulary; #tokens; #letters; #bytes; #added; #words; #prefix; #whole; #form; #known = new Map();

  constructor({ model, pre_tokenizer, added_tokens = [], normalizer }) {
    super();
    this.#vocabulary = new Map(Object.entries(model.vocab));
    this.#tokens = new Map([...this.#vocabulary].map(([token, id]) => [id, token]));
    const added = [...added_tokens].sort((a, b) => b.content.length - a.content.length);
    this.#added = new Map(added.map((t) => [t.content, t.id]));
    for (const [token, id] of this.#added) this.#tokens.set(id, token);
    this.#ranks = new Map(model.merges.map((pair, rank) => [typeof pair === "string" ? pair : pair.join(" "), rank]));
    this.#letters = letters();
    this.#bytes = new Map(this.#letters.map((letter, byte) => [letter, byte]));
    const steps = pre_tokenizer.type === "Sequence" ? pre_tokenizer.pretokenizers : [pre_tokenizer];
    const bytes = steps.find((s) => s.type === "ByteLevel"), split = steps.find((s) => s.type === "Split");
    this.#words = new RegExp(split ? ofRust(split.pattern.Regex) : bytes.use_regex === false ? "[^]+" : WORDS, "gu");
    this.#prefix = Boolean(bytes.add_prefix_space);
    this.#whole = Boolean(model.ignore_merges);
    this.#form = normalizer?.type;
    this.size = Math.max(...this.#tokens.keys()) + 1;
  }

  encode(text) {
    if (!text.isWellFormed?.() && /[\ud800-\udfff]/u.test(text)) throw new TokenError("The text has half a surrogate pair, which is no text.");
    const ids = [];
    for (const [part, id] of this.#parts(text)) {
      if (id !== undefined) ids.push(id);
      else for (const [word] of this.#normal(part).matchAll(this.#words)) ids.push(...this.#word(word));
    }
    return ids;
  }

  bytes(id) {
    const token = this.#tokens.get(id) ?? "";
    if (this.#added.has(token)) return new TextEncoder().encode(token);
    return Uint8Array.from(token, (letter) => this.#bytes.get(letter));
  }

  /** The text in parts: added tokens, each with its id, and what is between them. */
  #parts(text) {
    if (!this.#added.size) return [[text]];
    const parts = [];
    for (let from = 0, at = 0; ; at++) {
      const token = at < text.length && [...this.#added.keys()].find((t) => t && text.startsWith(t, at));
      if (!token && at < text.length) continue;
      if (at > from) parts.push([text.slice(from, at)]);
      if (!token) return parts;
      parts.push([token, this.#added.get(token)]);
      from = at + token.length;
      at = from - 1;
    }
  }

  #normal(part) {
    const normal = this.#form ? part.normalize(this.#form) : part;
    return this.#prefix && !normal.startsWith(" ") ? ` ${normal}` : normal;
  }

  #word(word) {
    let ids = this.#known.get(word);
    if (!ids) {
      const text = Array.from(new TextEncoder().encode(word), (byte) => this.#letters[byte]);
      const whole = this.#whole ? this.#vocabulary.get(text.join("")) : undefined;
      ids = whole !== undefined ? [whole] : this.#merged(text).map((t) => this.#vocabulary.get(t)).filter((id) => id !== undefined);
      this.#known.set(word, ids);
    }
    return ids;
  }

  #merged(parts) {
    while (parts.length > 1) {
      let best = Infinity, at = -1;
      for (let i = 0; i + 1 < parts.length; i++) {
        const rank = this.#ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, i];
      }
      if (at < 0) break;
      parts.splice(at, 2, parts[at] + parts[at + 1]);
    }
    return parts;
  }
}

/** The letter that stands for each byte: itself where it can be printed, else one from U+0100 on. */
function letters() {
  const printed = (b) => (b > 32 && b < 127) || (b > 160 && b < 173) || b > 173;
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printed(b) ? b : next++));
}

/** A pattern of Rust's syntax in JavaScript's: white space is Unicode's, and (?i:…) is written out. */
function ofRust(pattern) {
  const both = (letters) => letters.replace(/\p{L}/gu, (c) => `[${c.toLowerCase()}${c.toUpperCase()}]`);
  return pattern.replace(/\(\?i:([^()\\[\]]*)\)/g, (_, inside) => `(?:${both(inside)})`).replaceAll("\\s", SPACE).replaceAll("\\S", "\\P{White_Space}");
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
