"""The module of a graph: one public function, `main`, whose inputs and results bear the user's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nagraph.errors import ExportError
from nagraph.export.refusals import Refusals
from nagraph.export.subject import Subject
from nagraph.export.to_stablehlo.block import Module, Ref
from nagraph.export.to_stablehlo.body import Body
from nagraph.ir.graph import Graph
from nagraph.ir.sizes import Dim, Size, substituted
from nagraph.ir.types import DTYPES, TensorType

I32, I64 = DTYPES["i32"], DTYPES["i64"]


def module_text(subject: Subject, sizes: Mapping[str, int] | None = None) -> str:
    """The text of a subject: inputs that are weights become constants. ExportError that lists every node without a translation.

    sizes: of the dimensions, for a module that can be run: its `main` has these, and calls what has `main`'s text.
    """
    graph, inputs, outputs, weights = subject.graph, subject.inputs, subject.outputs, subject.weights
    refusals = Refusals("StableHLO", graph.name)
    module = Module(graph.name, subject.metadata)
    label = module.symbol("of_any_size" if sizes else "main")
    body = Body(module, refusals)
    given = [(body.input(v.type, name), name) for v, name in zip(graph.inputs, inputs, strict=True) if name not in weights]
    free = iter(given)
    values = [body.constant(weights[name]) if name in weights else next(free)[0] for name in inputs]
    _bind(body, graph, values, inputs)
    results = body.walk(graph, values)
    refusals.check()
    body.op("func.return", results, ())
    made = [(v.type, name) for v, name in zip(graph.outputs, outputs, strict=True)]
    module.add(label, bool(sizes), given, made, body.lines, {} if sizes else _given_away(subject, given))
    if sizes:
        _add_main(module, body, label, graph, sizes, given, made)
    return str(module)


def _given_away(subject: Subject, given: Sequence[tuple[Ref, str]]) -> dict[str, str]:
    """For arguments whose memory results may take, the attribute by which XLA knows it."""
    names = [name for _, name in given]
    return {given[names.index(subject.inputs[i])][0].name: f"tf.aliasing_output = {j} : i32" for j, i in subject.donations.items()}


def _add_main(module: Module, body: Body, label: str, graph: Graph, sizes: Mapping[str, int], given: Sequence[tuple[Ref, str]],
              made: Sequence[tuple[TensorType, str]]) -> None:
    """A function of known sizes that calls another, of which the text does not know them."""
    known = graph.specialise(sizes)
    chosen = {d: sizes[d.name] for d in graph.dims}
    main = Body(module, body.refusals)
    inputs = [main.input(x.type.with_shape(tuple(substituted(n, chosen) for n in x.shape))) for x, _ in given]
    operands = [main.do("convert", [x], ref.type) if x.type != ref.type else x for x, (ref, _) in zip(inputs, given)]
    results = main.op("func.call", operands, [t for t, _ in made], callee=f"@{label}")
    shown = [main.do("convert", [y], t) if y.type != t else y for y, t in zip(results, known.output_types)]
    main.op("func.return", shown, ())
    module.add(module.symbol("main"), False, [(x, "") for x in inputs], [(t, "") for t in known.output_types], main.lines)


def _bind(body: Body, graph: Graph, values: Sequence[Ref], names: Sequence[str]) -> None:
    """Find each dimension from an axis that is nothing but it, or a number times it and a number."""
    axes = [(n, x, a) for v, x in zip(graph.inputs, values) for a, n in enumerate(v.type.shape) if isinstance(n, Size)]
    for d in graph.dims:
        fitting = [(n, x, a) for n, x, a in axes if all(m in ((), ((d, 1),)) for m, _ in n.terms)]
        if not fitting:
            raise ExportError(f"{graph.name}: the dimension {d.name} does not follow from the inputs {', '.join(names)}: no axis is "
                              f"{d.name} alone, or a number times it and a number; give an input an axis that is")
        n, x, a = min(fitting, key=lambda axis: not isinstance(axis[0], Dim))
        terms = dict(n.terms)
        size = body.do("get_dimension_size", [x], TensorType(I32, ()), dimension=f"{a} : i64")
        whole = body.calculated("multiply", body.convert(size, I64), n.divisor)
        found = body.calculated("divide", body.calculated("add", whole, -terms.get((), 0)), terms[(d, 1),])
        assert isinstance(found, Ref)
        body.dimensions[d] = found
