"""WebAssembly: modules run in Node, with the bits of the LLVM backend; their loader; what is refused."""

from __future__ import annotations

import json
import pathlib
import re

import numpy as np
import pytest

import nagraph as ng
import nagraph.numpy as gnp
from nagraph.errors import ExportError
from nagraph.export.subject import Subject
from nagraph.models import CLASSES
from nagraph.models.tasks import task_class
from nagraph.models.workloads import has_layers, workload
from nagraph.ops.operands import as_array
from tests.consistency.rows import namespaces
from tests.consistency.ways import body_of
from tests.export.node import called, node, same_bits
from tests.ops.test_every_op import ALL, samples
from tests.support import WHOLE

RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(40, 30)).astype(np.float32), RNG.normal(size=(30, 50)).astype(np.float32)
LABELS = RNG.integers(0, 50, 40)
#: The multiply-adds of the module's own, and those of the engine.
BOTH = pytest.mark.parametrize("fused", [False, True])


def check(graph, arrays, folder, both=True):
    """The module of a graph gives what the executable of the LLVM backend gives, bit for bit, with the engine's multiply-adds as well."""
    ng.export.wasm(graph, folder)
    inputs = Subject.of(graph).inputs
    wanted = ng.compile(graph, backend="llvm")(*arrays)
    for fused in (False, True)[:1 + both]:
        (found,) = called(folder, [dict(zip(inputs, arrays, strict=True))], fused=fused, relaxed=fused)
        wrong = [name for (name, a), b in zip(found.items(), wanted, strict=True) if not same_bits(a, b)]
        assert not wrong, (fused, wrong)


def batch(bodies):
    """A graph that computes all bodies, each of (arrays, function), and the arrays that it takes."""
    arrays = [a for own, _ in bodies for a in own]

    def every(*given):
        given = iter(given)
        return [y for own, body in bodies for y in body(*(next(given) for _ in own))]

    return ng.trace(every, *arrays), arrays


def applied(op, operands):
    def body(*values):
        found = op(*values)
        return found if isinstance(found, tuple) else (found,)

    return [as_array(x) for x in operands], body


def test_every_op_has_the_bits_of_the_llvm_backend(tmp_path):
    cases = [applied(op, operands) for op in ALL for operands in (samples(op) if WHOLE else samples(op)[:1])]
    assert len(cases) > 80
    check(*batch(cases), tmp_path / "ops")


@pytest.mark.skipif(not WHOLE, reason="a sweep: NAGRAPH_TESTS=all")
@pytest.mark.parametrize("namespace", ["numpy", "linalg", "functional", "losses", "random"])
def test_every_public_function_has_the_bits_of_the_llvm_backend(namespace, tmp_path):
    bodies = []
    for name, (function, _, cases) in namespaces().items():
        for args, kwargs in cases if name.startswith(f"{namespace}.") else ():
            arrays, body = body_of(function, args, kwargs)
            try:
                ng.trace(body, *arrays)
            except (ng.errors.NagraphError, TypeError, ValueError):  # it wants values, or what no graph has
                continue
            bodies.append((arrays, body))
    assert len(bodies) > 8
    for n in range(0, len(bodies), 100):
        check(*batch(bodies[n:n + 100]), tmp_path / f"some{n}", both=False)


@pytest.mark.skipif(not WHOLE, reason="a sweep: NAGRAPH_TESTS=all")
@pytest.mark.parametrize("step", ["infer", "train"])
@pytest.mark.parametrize("name", CLASSES)
def test_every_model_has_the_bits_of_the_llvm_backend(name, step, tmp_path):
    work = workload(name, step, 1 if has_layers(task_class(name)) else None)
    check(work.graph(), work.arrays(), tmp_path / name)


def flow(x, w):
    def step(carry, row):
        carry = ng.cond(row[0] > 0, lambda c: c * 0.5 + 1, lambda c: c - row[1], carry)
        return carry, carry + row.sum()

    last, found = ng.scan(step, w[0], x)
    n, total = ng.while_loop(lambda s: s[0] < 9, lambda s: (s[0] + 1, gnp.sin(s[1]) + s[1] * 0.5), (np.int32(0), last))
    wide = gnp.tanh(x.astype("f64") @ w.astype("f64"))
    return {"last": last, "found": found, "n": n, "total": total, "sorted": gnp.sort(x, axis=1), "order": gnp.argsort(x, axis=0),
            "wide": wide, "half": wide.astype("f16"), "soft": ng.nn.functional.softmax(x @ w)}


def scaled(x, w):
    return {"y": gnp.exp(x) * w.T[:40]}


def train(state, x, labels):
    loss, gradient = ng.value_and_grad(lambda w: ng.nn.losses.cross_entropy(x @ w, labels))(state["w"])
    m = 0.9 * state["m"] + gradient
    return loss, {"w": state["w"] - 0.1 * m, "m": m}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Modules that several tests look at: control flow with a weight, and a step that keeps its state."""
    place = tmp_path_factory.mktemp("wasm")
    ng.export.wasm(flow, place / "flow", (ng.spec(X.shape), W))
    ng.export.wasm(scaled, place / "beside", (ng.spec(X.shape), W), beside=True)
    state = {"m": ng.spec(W.shape), "w": ng.spec(W.shape)}
    ng.export.wasm(ng.jit(train, donate_argnames="state"), place / "train", (state, ng.spec(X.shape), ng.spec(LABELS.shape, "i64")),
                   metadata={"made": "here"})
    return place


@BOTH
@pytest.mark.parametrize("f", [flow, scaled])
def test_control_flow_sorts_and_products_with_weights_inside_and_beside(folders, f, fused):
    (found,) = called(folders / {flow: "flow", scaled: "beside"}[f], [{"x": X}], fused=fused, relaxed=True)
    wanted = ng.jit(f)(X, W)
    assert list(found) == sorted(wanted)
    assert not [n for n, a in wanted.items() if not same_bits(found[n], np.asarray(a))]


@BOTH
def test_a_train_step_keeps_its_state_in_memory(folders, fused):
    state, losses, step = {"m": np.zeros_like(W), "w": W}, [], ng.jit(train)
    for _ in range(3):
        loss, state = step(state, X, LABELS)
        losses.append(np.asarray(loss))
    again = {"x": X, "labels": LABELS}
    found = called(folders / "train", [again | {"state.w": W}, again, again], ["output1.w", "output1.m"], fused=fused, relaxed=True)
    assert all(same_bits(row["output0"], loss) for row, loss in zip(found, losses, strict=True))
    assert same_bits(found[-1]["output1.w"], np.asarray(state["w"])) and same_bits(found[-1]["output1.m"], np.asarray(state["m"]))
    assert not same_bits(losses[0], losses[2])


_WRONG = """
const [folder] = process.argv.slice(1);
const { load, NagraphError } = await import(`${folder}/train/nagraph.js`);
const program = await load(`${folder}/train/program.wasm`);
const fine = { x: new Float32Array(1200), labels: new BigInt64Array(40) };
const said = [];
const wrong = async (f) => {
  try {
    await f();
    said.push("nothing was wrong");
  } catch (error) {
    said.push(error instanceof NagraphError ? error.message : `internal: ${error.stack}`);
  }
};
await wrong(() => program.run({ ...fine, y: 3 }));
await wrong(() => program.run({ x: fine.x }));
await wrong(() => program.run({ ...fine, x: new Float64Array(1200) }));
await wrong(() => program.run({ ...fine, x: new Float32Array(7) }));
await wrong(() => program.run({ ...fine, labels: Array(40).fill(0.5) }));
await wrong(() => program.run({ ...fine, labels: [1, 2] }));
await wrong(() => program.run({ ...fine, x: Array(1200).fill("a") }));
await wrong(() => program.run({ ...fine, labels: [[...Array(39).fill(1)], 50] }));
await wrong(() => program.get("nothing"));
await wrong(() => load(new Uint8Array(9)));
await wrong(() => load(new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0])));
await wrong(() => load(`${folder}/none.wasm`));
await wrong(() => load(`${folder}/beside/program.wasm`, { weights: new Uint8Array(80) }));
const before = program.get("state.w");
program.run({ ...fine, x: Array(1200).fill(1), labels: Array(40).fill(2) });
const after = program.get("output1.w");
program.reset();
said.push([before.every((v) => v === 0), after.some((v) => v !== 0), program.get("state.w").every((v) => v === 0), program.metadata.made,
  program.inputs.x, program.inputs["state.w"].state]);
console.log(JSON.stringify(said));
"""


def test_mistakes_are_told_in_one_sentence_each(folders):
    said = json.loads(node("--input-type=module", "-e", _WRONG, str(folders)))
    *sentences, facts = said
    expected = [
        'train has no input "y"; it has state.m, state.w, x, labels', 'input "labels" is missing: i64[40]',
        'input "x" is f32[40, 30]: give a Float32Array of 1200, got a Float64Array of 1200',
        'input "x" is f32[40, 30]: give a Float32Array of 1200, got one of 7',
        'input "labels" is i64[40]: give a BigInt64Array of 40, got 0.5 among them',
        'input "labels" is i64[40]: give a BigInt64Array of 40, got 2 numbers',
        'input "x" is f32[40, 30]: give a Float32Array of 1200, got "a" among them',
        "the call of train ended: labels are classes, 0 to 49", 'train has no input or output "nothing"; it has state.m,',
        "the module can't be used", "this WebAssembly module was not written by nagraph", "none.wasm can't be read",
        "these are not the weights that scaled was written with"]
    assert [(a, b) for a, b in zip(sentences, expected, strict=True) if b not in a] == []
    assert "test_wasm.py" in sentences[7]
    assert facts == [True, True, True, "here", {"dtype": "f32", "shape": [40, 30], "state": False}, True]


def test_an_executable_is_written_as_it_is(tmp_path):
    """With its own kernels, and the memory of donated arguments."""
    step = ng.jit(train, donate_argnames="state")
    executable = step.lower({"m": np.zeros_like(W), "w": W.copy()}, X, LABELS).executable
    ng.export.wasm(executable, tmp_path / "exe")
    names = Subject.of(executable).inputs
    found, again = called(tmp_path / "exe", [dict(zip(names, (np.zeros_like(W), W, X, LABELS))), dict(zip(names[2:], (X, LABELS)))])
    wanted = [np.asarray(executable(np.zeros_like(W), W.copy(), X, LABELS)[0])]
    assert same_bits(next(iter(found.values())), wanted[0]) and len(found) == 1
    assert next(iter(again.values())) < wanted[0]


def test_the_example_runs(folders):
    assert {p.name for p in (folders / "flow").iterdir()} == {"program.wasm", "nagraph.js", "package.json", "example.js"}
    assert "weights.safetensors" in {p.name for p in (folders / "beside").iterdir()}
    assert "found [ 40, 50 ] Float32Array(2000)" in node(str(folders / "flow" / "example.js"))


def test_what_can_not_be_written_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    def shown(x):
        ng.debug.print("{}", x)
        return x + 1

    with pytest.raises(ExportError, match=r"debug.print.*only Python computes it.*test_wasm.py"):
        ng.export.wasm(shown, tmp_path / "a", ng.spec((3,)))
    with pytest.raises(ExportError, match="sizes that are not known \\(n\\), and WebAssembly is written for known ones"):
        ng.export.wasm(gnp.exp, tmp_path / "a", ng.spec((ng.Dim("n"),)))
    with pytest.raises(ExportError, match="works in 8,5.*end at 4,294,901,760"):
        ng.export.wasm(gnp.exp, tmp_path / "a", ng.spec((1 << 30,)))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match="linked by wasm-ld, which is not installed.*apt install lld"):
        ng.export.wasm(gnp.exp, tmp_path / "a", ng.spec((3,)))
    assert not list(tmp_path.iterdir())


def test_the_page_of_the_docs_runs(tmp_path):
    page = (pathlib.Path(__file__).parents[2] / "docs" / "exporting.md").read_text()
    (code,) = re.findall(r"^```js\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    ng.export.wasm(lambda w, pixels: {"logits": ng.nn.functional.softmax(pixels @ w)}, tmp_path / "classifier",
                   (np.ones((64, 10), np.float32), ng.spec((2, 64))))
    (tmp_path / "page.mjs").write_text(code)
    assert node(str(tmp_path / "page.mjs")).startswith("[ 2, 10 ] 0.1")
