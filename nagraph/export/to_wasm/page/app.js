// The page: what is typed goes to the worker as ids, what it writes appears at the pace that was chosen.

const $ = (id) => document.getElementById(id);
const facts = JSON.parse($("facts").textContent);
const tokenizer = tokenizerOf(facts.tokenizer);
const worker = new Worker(URL.createObjectURL(new Blob([$("worker").textContent], { type: "text/javascript" })));
/** Tokens a second, by the pace's number; the last is as fast as they come. */
const PACES = [2, 5, 10, 20, 40, 80, 160, 400, Infinity];
const NAMED = { " ": "space", "\n": "new line", "\t": "tab", "": "part of a character" };

let ready = false, writing = 0, waiting = [], ended = true, due = 0, last = 0;
/** The ids so far, prompt included; null before the first. */
let ids = null, show = null;
let spent = [0, 0];

// -- writing ------------------------------------------------------------------------------------------------

function write() {
  if (!ready || writing) return;
  try {
    if (!ids) {
      ids = tokenizer.encode($("prompt").value);
      if (!ids.length) throw new TokenError("Begin with a word or two: the model goes on from there.");
      show = tokenizer.reader();
    }
  } catch (error) {
    ids = null;
    if (!(error instanceof TokenError)) throw error;
    return said(error.message, true);
  }
  if (!$("text").firstChild) {
    const prompt = document.createElement("em");
    prompt.textContent = $("prompt").value;
    $("text").append(prompt);
    $("prompt").hidden = true;
    $("text").focus();
  }
  [writing, waiting, ended, spent, due, last] = [ids.length + Math.random(), [], false, [0, 0], 0, performance.now()];
  const seed = (Number($("seed").value) + ids.length * 7919) >>> 0;
  const sampling = { temperature: Number($("temperature").value), topK: Number($("top").value) };
  worker.postMessage({ say: "write", number: writing, ids, count: Number($("count").value), sampling, seed });
  update();
  requestAnimationFrame(appear);
}

function stop() {
  if (!writing) return;
  worker.postMessage({ say: "stop" });
  [writing, waiting, ended] = [0, [], true];
  update();
}

function startAgain() {
  stop();
  ids = null;
  $("prompt").hidden = false;
  $("text").replaceChildren();
  $("next").replaceChildren();
  said("");
  update();
  $("prompt").focus();
  atItsEnd();
}

/** Show the tokens that are due since the last frame. */
function appear(now) {
  if (!writing) return;
  const pace = PACES[$("pace").value];
  due = pace === Infinity ? waiting.length : Math.min(due + ((now - last) / 1000) * pace, waiting.length);
  last = now;
  const some = waiting.splice(0, Math.floor(due));
  due -= some.length;
  if (some.length) put(some);
  if (ended && !waiting.length) {
    writing = 0;
    update();
  } else requestAnimationFrame(appear);
}

/** Tokens in the text, and what could have come in the last one's place. */
function put(some) {
  const sheet = $("text"), follows = innerHeight + scrollY >= document.body.scrollHeight - 40;
  const spans = some.map(({ id, p, ms }) => {
    ids.push(id);
    spent = [spent[0] + ms, spent[1] + 1];
    const span = document.createElement("span");
    span.textContent = show(id);
    span.style.setProperty("--doubt", Math.min(0.55, -Math.log2(p) / 14).toFixed(3));
    span.title = `${(100 * p).toFixed(1)} %`;
    return span;
  });
  sheet.append(...spans);
  const taken = some.at(-1);
  $("next").replaceChildren(...taken.likeliest.map(([id, p]) => candidate(id, p, id === taken.id)));
  said(`${ids.length.toLocaleString("en")} ${facts.tokens}, ${speed()}`);
  if (follows) scrollTo(0, document.body.scrollHeight);
}

function candidate(id, p, taken) {
  const item = document.createElement("li"), name = document.createElement("b"), share = document.createElement("i");
  const text = tokenizer.decode([id]);
  name.textContent = NAMED[text] ?? text.replaceAll("\n", "⏎").replaceAll(" ", "␣");
  share.textContent = p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)} %`;
  item.style.setProperty("--p", `${(100 * p).toFixed(1)}%`);
  item.className = taken ? "taken" : "";
  item.append(name, share);
  return item;
}

const speed = () => `${Math.round((1000 * spent[1]) / Math.max(spent[0], 1e-3)).toLocaleString("en")} a second`;

// -- the worker ---------------------------------------------------------------------------------------------

worker.onmessage = ({ data }) => {
  if (data.ready) {
    ready = true;
    document.documentElement.dataset.ready = data.fused ? "fused" : "exact";
    said("Ready");
    update();
  } else if (data.error !== undefined) {
    stop();
    said(data.error, true);
  } else if (data.number === writing) {
    waiting.push(...data.tokens);
    ended = data.last;
  }
};
worker.onerror = (event) => said(`This browser can't run the model: ${event.message ?? "it starts no worker"}`, true);

async function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

bytesOf($("program").textContent).then((program) => {
  worker.postMessage({ say: "load", program, context: facts.context, ids: facts.ids, start: facts.start }, [program.buffer]);
  $("program").remove();
});

// -- the form -----------------------------------------------------------------------------------------------

function said(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

function update() {
  $("write").disabled = !ready || Boolean(writing);
  $("write").firstElementChild.textContent = ids ? "Go on" : "Write";
  $("stop").disabled = !writing;
  $("clear").disabled = !ids;
  $("text").classList.toggle("writing", Boolean(writing));
  $("text").classList.toggle("doubt", $("doubt").checked);
  const shown = { temperature: Number($("temperature").value).toFixed(2), top: $("top").value === $("top").max ? "all" : $("top").value,
    count: $("count").value, pace: PACES[$("pace").value] === Infinity ? "full" : `${PACES[$("pace").value]} a second` };
  for (const [name, value] of Object.entries(shown)) document.querySelector(`output[for=${name}]`).textContent = value;
}

function grow() {
  const box = $("prompt");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  write();
});
$("form").addEventListener("input", update);
$("prompt").addEventListener("input", grow);
$("stop").addEventListener("click", stop);
$("clear").addEventListener("click", startAgain);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && writing) stop();
  else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    write();
  }
});
const atItsEnd = () => $("prompt").setSelectionRange($("prompt").value.length, $("prompt").value.length);
atItsEnd();
grow();
update();
