"""The text form: every graph reads back as it was; every wrong text is an error that points at its place."""

import random
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings

import nagraph as ng
from nagraph.backends import find
from nagraph.errors import NagraphError, ParseError
from nagraph.ir import Graph, Location, Node, Value, build, spec
from nagraph.ir.constant import Constant
from nagraph.ir.op import Op, op
from nagraph.ir.printer import format_graph
from nagraph.ir.types import DTYPES
from nagraph.models.workloads import workload
from nagraph.pipeline import Pipeline
from nagraph.regions.calls import Call
from tests.graphs import graphs
from tests.ir.corpus import constant_graph, constants, one_node_graphs, region_graphs, shaped_constants
from tests.support import own_ops

ONE_NODE, REGIONS, CONSTANTS = one_node_graphs(), region_graphs(), constants()


def round_trip(graph: Graph) -> None:
    text = str(graph)
    back = ng.parse(text)
    assert back == graph
    assert str(back) == text
    ng.verify(back)


@settings(max_examples=300, deadline=None)
@given(graphs())
def test_random_graphs_read_back_exactly(graph):
    round_trip(graph)


def test_the_corpus_holds_every_op():
    met = {n.op.name for g in (*ONE_NODE.values(), *REGIONS.values()) for n in g.nodes}
    assert met >= own_ops().keys()


@pytest.mark.parametrize("name", ONE_NODE)
def test_every_op(name):
    round_trip(ONE_NODE[name])


@pytest.mark.parametrize("name", REGIONS)
def test_regions(name):
    round_trip(REGIONS[name])


@pytest.mark.parametrize("name", DTYPES)
def test_constants_keep_every_bit(name):
    """Inline, as a blob, and each element alone."""
    array = CONSTANTS[name]
    for each in (array, np.tile(array, 20), *(array[i] for i in range(array.size))):
        graph = constant_graph(each)
        round_trip(graph)
        assert ng.parse(str(graph)).nodes[0].op.array.tobytes() == np.asarray(each).tobytes()


def test_every_half_precision_number():
    """All 65,536 bit patterns of f16 and of bf16, in rows of 16 so that each is written out."""
    rows = np.arange(1 << 16).astype(np.uint16).reshape(-1, 16)
    for name in ("f16", "bf16"):
        round_trip(constant_graph(*rows.view(DTYPES[name])))


def test_floats_of_random_bits():
    rng = np.random.default_rng(0)
    for name, bits in (("f32", "u4"), ("f64", "u8")):
        rows = rng.integers(0, np.iinfo(bits).max, (500, 16), bits, endpoint=True)
        round_trip(constant_graph(*rows.view(DTYPES[name])))


@pytest.mark.parametrize("i", range(len(shaped_constants())))
def test_shapes_of_constants(i):
    round_trip(constant_graph(shaped_constants()[i]))


def test_sixteen_elements_are_inline_and_seventeen_are_not():
    assert "resource" not in str(constant_graph(np.arange(16)))
    assert "resource" in str(constant_graph(np.arange(17)))


def test_equal_large_constants_are_printed_once():
    array = np.arange(1000.0)
    graph = constant_graph(array, array.copy(), -array)
    assert str(graph).count("resource") == 2
    round_trip(graph)


def test_equal_regions_are_printed_once_and_others_of_the_same_name_have_numbers():
    assert str(REGIONS["a region twice"]).count("graph @") == 2
    text = str(REGIONS["cond"])
    assert "graph @twice(" in text and "graph @twice#1 as @twice(" in text


NAMES = ["", " ", "two words", "a->b", "f<x>", "f#1", "f#", "#1", '"', '"#1', "\\", "@", "%0", "naïve", "graph", "as", "return", "a\nb",
         "\u2028", "x.y-z", "sha256:0", "0", "//", "\ud800"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_of_graphs(name):
    """Any string names a graph, also where other graphs have that name, or the label made of it."""
    row = [spec((), "f32")]

    def calls(x):
        for k, n in enumerate((name, f"{name}#1", name)):
            x = Call("c", "checkpoint", build(n, row, lambda a, k=k: [a + float(k)]))(x)
        return [x]

    round_trip(build(name, row, calls))


def test_names_of_inputs():
    """Names that can be written are kept, however often they come; the others become numbers."""
    wanted = [*NAMES, "x", "x", "x_1", "x", "x_1", "w", "0", "1", "_", "é", "a.b", "x\n"]
    graph = build("names", [spec((), "f32")] * len(wanted), lambda *xs: [xs[0] + xs[1]], wanted)
    round_trip(graph)
    names = [v.name for v in ng.parse(str(graph)).inputs]
    assert len(set(filter(None, names))) == len(list(filter(None, names)))
    assert {"x", "x_1", "x_2", "w", "_", "naïve", "a.b"} <= set(names)


def test_ten_thousand_inputs_of_one_name():
    graph = build("names", [spec((), "f32")] * 10_000, lambda *xs: [xs[-1]], ["x"] * 10_000)
    round_trip(graph)


def test_no_inputs_no_outputs_and_an_input_as_output():
    round_trip(Graph("empty", (), (), ()))
    x = Value(spec((2, 0), "bf16"), "x")
    round_trip(Graph("same", (x,), (), (x, x)))


def test_source_locations_read_back_and_are_no_part_of_equality():
    graph = build("f", [spec((), "f32")], lambda x: [x * x])
    assert re.search(r"// test_text.py:\d+\n", str(graph))
    bare = ng.parse(format_graph(graph, locations=False))
    assert bare == graph and "//" not in str(bare)
    assert ng.parse(str(graph)).nodes[0].location.line == graph.nodes[0].location.line


FILES = ["a.py", "two words.py", "two  blanks.py", "a\nb.py", "<stdin>", "folder/", "", ":", "//", "a:3", "\x85.py", "é.py"]


@pytest.mark.parametrize("file", FILES, ids=ascii)
def test_names_of_files(file):
    """Whatever the source is called, the text reads back, and prints as it did."""
    graph = build("f", [spec((), "f32")], lambda x: [x * x])
    round_trip(graph.with_nodes([Node(n.op, n.operands, n.results, Location(file, 7)) for n in graph.nodes]))


def test_comments_and_spaces_are_free():
    plain = "graph @f(%x: f32[2]) -> (f32[2]) { %0: f32[2] = tanh(%x) return %0 }"
    loose = """// a comment
    graph // another: 1
      @f ( %x : f32 [ 2 ] ) -> ( f32[ 2 ] ) {   // "unclosed
        %y : f32[2]
          = tanh ( %x )
        return %y }  // the end"""
    assert ng.parse(loose) == ng.parse(plain)


def test_graphs_stand_in_any_order_after_the_first():
    parts = str(REGIONS["nested"]).split("\ngraph ")
    back = "\ngraph ".join([parts[0], *parts[:0:-1]])
    assert ng.parse(back) == REGIONS["nested"]


def test_a_training_step_at_every_pass():
    """A transformer's step as traced, and after each pass up to the plan."""
    graph = workload("gpt2", "train", layers=1, heads=2, width=8, context=4, batch=2).graph()
    assert len(graph.nodes) > 500
    seen = [graph]
    Pipeline.parse(find("numpy").pipeline).with_observers(lambda o: seen.append(o.after))(graph)
    assert len({len(g.nodes) for g in seen}) > 5
    for g in {id(g): g for g in seen}.values():
        round_trip(g)


# -- wrong texts: `^^` stands before the place that the error shows ---------------------------------------

HEAD = "graph @f(%x: f32[2,3], %i: i32[2]) -> (f32[2,3]) {\n  "
ZEROS = "0" * 64
WRONG = [
    ("^^", "at least one graph"),
    ("^^module @f() -> () { return }", "expected 'graph', 'dim' or 'resource', found 'module'"),
    ("^^{ }", "expected 'graph', 'dim' or 'resource', found '{'"),
    ("graph ^^f() -> () { return }", "expected a label such as @name, found 'f'"),
    ("graph @f(^^x: f32[2]) -> () { return }", "expected an input such as %x: f32[2,3], found 'x'"),
    ("graph @f(%x^^) -> () { return }", "expected ':', found ')'"),
    ("graph @f(%x: ^^f33[2]) -> () { return }", "unknown dtype 'f33'; there is bool, i8"),
    ("graph @f(%x: f32[^^-2]) -> () { return }", "a size is a whole number that is not negative, not -2"),
    ("graph @f(%x: f32[^^2.5]) -> () { return }", "not 2.5"),
    ("graph @f(%x: f32^^) -> () { return }", "expected '[', found ')'"),
    (f"graph @f(%x: ^^f32[{9 * 10**18}]) -> () {{ return }}", "less than 2^63 bytes"),
    (f"graph @f(%x: ^^f32[{'1,' * 64}1]) -> () {{ return }}", "up to 64 axes"),
    ("graph @f(%x: f32[2], ^^%x: f32[2]) -> () { return }", "%x is defined above already"),
    ("graph @f(%x: f32[2] ^^%y: f32[2]) -> () { return }", "expected ',', found '%y'"),
    ("graph @f() ^^() { return }", "expected '->', found '('"),
    ("^^graph @f(%x: f32[2]) -> (f32[2]) { return %x", "this graph has no closing brace"),
    ("^^graph @f(%x: f32[2]) -> (f32[2]) { return %x\ngraph @g() -> () { return }", "this graph has no closing brace"),
    ("graph @f() -> () ^^} return {", "a brace closes that was not opened"),
    ("graph @f() -> () { return }\n^^}", "expected 'graph', 'dim' or 'resource', found '}'"),
    ("graph @f() -> () { return }\ngraph ^^@f() -> () { return }", "a graph labelled @f stands above already"),
    ("graph @f() -> () { return }\ngraph ^^@g() -> () { return }", "graph @g is a region of no node of @f"),
    ("graph @f() -> () { return ^^$ }", "unexpected character '$'"),
    ('graph @f() -> () { return } resource ^^"', "unexpected character '\"'"),
    (HEAD + "%0: f32[2,3] = ^^tanhh(%x)\n  return %0\n}", "unknown op 'tanhh'; did you mean 'tanh'?"),
    (HEAD + "%0: f32[2,3] = ^^qqqqqq(%x)\n  return %0\n}", "unknown op 'qqqqqq'"),
    (HEAD + "%0: f32[2,3] = ^^3(%x)\n  return %0\n}", "expected an op, found '3'"),
    (HEAD + "%0: f32[2,3] = tanh(^^%y)\n  return %0\n}", "%y is not defined before this line"),
    (HEAD + "%0: f32[2,3] = tanh(^^%0)\n  return %0\n}", "%0 is not defined before this line"),
    (HEAD + "%0: f32[2,3] = tanh(^^1.0)\n  return %0\n}", "expected a value such as %x, found '1.0'"),
    (HEAD + "%0: f32[2,3] = tanh(%x)\n  ^^%0: f32[2,3] = tanh(%x)\n  return %0\n}", "%0 is defined above already"),
    (HEAD + "^^%x: f32[2,3] = tanh(%x)\n  return %x\n}", "%x is defined above already"),
    (HEAD + "^^%0: f32[3,2] = tanh(%x)\n  return %0\n}", "tanh gives (f32[2,3]), but the line says (f32[3,2])"),
    (HEAD + "^^%0: f64[2,3] = tanh(%x)\n  return %0\n}", "tanh gives (f32[2,3]), but the line says (f64[2,3])"),
    (HEAD + "^^%0: f32[2,3], %1: f32[2,3] = tanh(%x)\n  return %0\n}", "but the line says (f32[2,3], f32[2,3])"),
    (HEAD + "%0: f32[2,3] = ^^tanh(%x, %x)\n  return %0\n}", "tanh takes 1 operand, got 2"),
    (HEAD + "%0: f32[2,3] = ^^tanh()\n  return %0\n}", "tanh takes 1 operand, got 0"),
    (HEAD + "%0: i32[2] = ^^tanh(%i)\n  return %x\n}", "tanh"),
    (HEAD + "%0: f32[2] = sum^^(%x)\n  return %x\n}", "sum needs the attribute axes"),
    (HEAD + "%0: f32[2] = sum{^^axis=[1]}(%x)\n  return %x\n}", "attribute axis is none; sum has axes"),
    (HEAD + "%0: f32[2,3] = tanh{^^axes=[1]}(%x)\n  return %x\n}", "attribute axes is none; tanh has none"),
    (HEAD + "%0: f32[2] = sum{axes=[1], ^^axes=[1]}(%x)\n  return %x\n}", "attribute axes comes twice"),
    (HEAD + "%0: f32[2] = sum{axes=^^1}(%x)\n  return %x\n}", "not 1"),
    (HEAD + "%0: f32[2] = sum{axes=^^[1.0]}(%x)\n  return %x\n}", "not (1.0,)"),
    (HEAD + "%0: f32[2] = sum{axes=^^[true]}(%x)\n  return %x\n}", "not (True,)"),
    (HEAD + "%0: f32[2] = sum{axes=^^maybe}(%x)\n  return %x\n}", "expected an attribute's value, found 'maybe'"),
    (HEAD + "%0: f32[2] = sum{axes=[1^^}(%x)\n  return %x\n}", "expected ',', found '}'"),
    (HEAD + f"%0: f32[2] = sum{{axes={'[' * 64}^^[{']' * 65}}}(%x)\n  return %x\n}}", "lists are nested more than 64 deep"),
    (HEAD + f"%0: f32[2] = sum{{axes=[^^{'1' * 5000}]}}(%x)\n  return %x\n}}", "a number of 5000 digits is too long"),
    (HEAD + "%0: f32[2] = ^^sum{axes=[2]}(%x)\n  return %x\n}", "sum"),
    (HEAD + "%0: i32[6] = pad{low=[2], high=[2], inner=[0], value=^^nan:1}(%i)\n  return %x\n}", "in constants only"),
    (HEAD + f"%0: i32[6] = pad{{low=[2], high=[2], inner=[0], value=^^{'9' * 320}}}(%i)\n  return %x\n}}", "larger than any f64"),
    (HEAD + "%0: f32[2] = const{value=^^[1.0,2.0,3.0]}()\n  return %x\n}", "the elements have shape [3], the type is f32[2]"),
    (HEAD + "%0: f32[2,2] = const{value=[[1.0,2.0],^^[3.0]]}()\n  return %x\n}", "these nested lists differ in shape"),
    (HEAD + "%0: f32[2] = const{value=[1.0,^^true]}()\n  return %x\n}", "expected a number, found 'true'"),
    (HEAD + "%0: f32[2] = const{value=[1.0,^^\"2\"]}()\n  return %x\n}", "expected an element"),
    (HEAD + "%0: f32[1] = const{value=[^^1e39]}()\n  return %x\n}", "1e39 is larger than any f32; infinity is written inf"),
    (HEAD + "%0: f16[1] = const{value=[^^65520]}()\n  return %x\n}", "65520 is larger than any f16"),
    (HEAD + "%0: f32[1] = const{value=[^^-nan]}()\n  return %x\n}", "written by its bits"),
    (HEAD + "%0: f32[1] = const{value=[^^-nan:1]}()\n  return %x\n}", "written by its bits"),
    (HEAD + "%0: f16[1] = const{value=[^^nan:7fc00001]}()\n  return %x\n}", "more bits than float16"),
    (HEAD + "%0: f32[1] = const{value=[^^nan:3f800000]}()\n  return %x\n}", "the bits of the number 1.0"),
    (HEAD + "%0: bool[1] = const{value=[^^1]}()\n  return %x\n}", "expected true or false, found '1'"),
    (HEAD + "%0: i8[1] = const{value=[^^128]}()\n  return %x\n}", "128 is no int8"),
    (HEAD + "%0: u8[1] = const{value=[^^-1]}()\n  return %x\n}", "-1 is no uint8"),
    (HEAD + "%0: i8[1] = const{value=[^^1.0]}()\n  return %x\n}", "1.0 is no int8"),
    (HEAD + f"%0: f32[2] = const{{value=blob ^^sha256:{ZEROS}}}()\n  return %x\n}}", "holds no resource sha256:00"),
    (HEAD + "%0: f32[2] = const{value=blob ^^sha256}()\n  return %x\n}", "expected sha256: and 64 hexadecimal digits"),
    (HEAD + f"return %x\n}}\nresource sha256:{ZEROS} = ^^\"AAAA\"", "the bytes are not those that this sha256 names"),
    (HEAD + f"return %x\n}}\nresource sha256:{ZEROS} = ^^\"AAA\"", "no base64"),
    (HEAD + f"return %x\n}}\nresource sha256:{ZEROS} = ^^3", "expected the bytes in base64, in quotes"),
    (HEAD + "return %x\n}\nresource ^^sha256", "expected sha256: and 64 hexadecimal digits"),
    (HEAD + "%0: f32[2,3] = call{label=\"c\", kind=\"checkpoint\", body=^^@g, fwd=none, bwd=none}(%x)\n  return %0\n}",
     "there is no graph labelled @g"),
    (HEAD + "%0: f32[2,3] = call{label=\"c\", kind=\"checkpoint\", body=^^@f, fwd=none, bwd=none}(%x)\n  return %0\n}",
     "graph @f holds itself"),
    (HEAD + "%0: f32[2,3] = ^^call{label=\"c\", kind=\"sometimes\", body=@g, fwd=none, bwd=none}(%x)\n  return %0\n}\n"
     "graph @g(%x: f32[2,3]) -> (f32[2,3]) { return %x }", "kind is one of composite, custom, checkpoint, fused, got 'sometimes'"),
    (HEAD + "%0: f32[2,3] = ^^call{label=\"c\", kind=\"checkpoint\", body=@g, fwd=none, bwd=none}(%x)\n  return %0\n}\n"
     "graph @g(%x: f32[3,2]) -> (f32[3,2]) { return %x }", "the region g takes (f32[3,2]), got (f32[2,3])"),
    (HEAD + "%0: f32[2,3] = call{label=^^\"\\q\", kind=\"checkpoint\", body=@g, fwd=none, bwd=none}(%x)\n  return %0\n}", "unknown escape"),
    (HEAD + "^^return\n}", "the graph returns (), but declares (f32[2,3])"),
    (HEAD + "^^return %x, %x\n}", "the graph returns (f32[2,3], f32[2,3]), but declares (f32[2,3])"),
    (HEAD + "^^return %i\n}", "the graph returns (i32[2]), but declares (f32[2,3])"),
    (HEAD + "return ^^%y\n}", "%y is not defined before this line"),
    (HEAD + "return %x ^^%x\n}", "expected ',', found '%x'"),
    (HEAD + "^^tanh(%x)\n}", "expected a node or 'return', found 'tanh'"),
    (HEAD + "%0: f32[2,3] ^^tanh(%x)\n  return %0\n}", "expected '=', found 'tanh'"),
    (HEAD + "%0: f32[2,3] = tanh(%x\n  ^^return %0\n}", "expected ',', found 'return'"),
]


@pytest.mark.parametrize("marked, message", WRONG, ids=range(len(WRONG)))
def test_a_wrong_text_is_an_error_that_shows_its_place(marked, message):
    at = marked.index("^^")
    text = marked.replace("^^", "")
    with pytest.raises(ParseError, match=re.escape(message)) as caught:
        ng.parse(text)
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    first, *_, shown, caret = str(caught.value).split("\n")
    assert first.startswith(f"line {line}, column {column}: ")
    assert shown[caret.index("^"):][:20] == text[at:].split("\n")[0][:20]


def test_regions_nested_too_deep():
    """A text of a thousand regions, each in the one before: an error, not a RecursionError."""
    node = "  %0: f32[] = call{{label=\"c\", kind=\"checkpoint\", body=@g{}, fwd=none, bwd=none}}(%x)\n"
    parts = [f"graph @g{k}(%x: f32[]) -> (f32[]) {{\n{node.format(k + 1)}  return %0\n}}" for k in range(1000)]
    with pytest.raises(ParseError, match="nested more than"):
        ng.parse("\n".join([*parts, "graph @g1000(%x: f32[]) -> (f32[]) { return %x }"]))


# -- any text at all -------------------------------------------------------------------------------------------

TOKEN = re.compile(r"\"[^\"\n]*\"|//[^\n]*|sha256:[0-9a-f]+|[%@]?[\w.#:-]+|\s+|.")
SPLICES = ["%", "@", "{", "}", "[", "]", "(", ")", ",", "=", "->", "nan", "-nan", "inf", "-inf", "nan:7f", "-nan:1", "1e400", "-1", "0",
           "9" * 20, "true", "none", "f32", "type", "type f32[2]", "graph", "return", "as", "resource", "blob", '"', "\\", "\0", "٣", "²",
           "\u2028", "//", "@f", "%0", "const", "1" * 5000, "[" * 200, "2147483648", "-9223372036854775809"]


def mutate(text: str, rng: random.Random) -> str:
    """One to three changes: tokens deleted, doubled, swapped or replaced, characters changed, the end cut off."""
    tokens = TOKEN.findall(text)
    for _ in range(rng.randint(1, 3)):
        i, j = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        kind = rng.randrange(8)
        if kind == 0:
            del tokens[i]
        elif kind == 1:
            tokens.insert(i, tokens[i])
        elif kind == 2:
            tokens[i], tokens[j] = tokens[j], tokens[i]
        elif kind == 3:
            tokens[i] = tokens[j]
        elif kind == 4:
            tokens[i] = rng.choice(SPLICES)
        elif kind == 5:
            tokens[i:i] = [rng.choice(SPLICES)]
        elif kind == 6:
            token = list(tokens[i])
            token[rng.randrange(len(token))] = chr(rng.choice([rng.randrange(128), rng.randrange(0xD800)]))
            tokens[i] = "".join(token)
        else:
            numbers = [k for k, t in enumerate(tokens) if t.isdecimal()]
            if numbers:
                tokens[rng.choice(numbers)] = str(rng.choice([0, 1, 2, 3, 4, 5, 7, 10**6, 2**31, 2**63]))
        if not tokens:
            tokens = [" "]
    if rng.random() < 0.05:
        del tokens[rng.randrange(len(tokens)):]
    return "".join(tokens)


def test_a_changed_text_is_a_graph_or_a_parse_error():
    rng = random.Random(0)
    texts = [str(g) for g in (*REGIONS.values(), *ONE_NODE.values(), constant_graph(*CONSTANTS.values(), np.arange(17)))]
    refused = accepted = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(6000):
            text = mutate(texts[k % len(texts)], rng)
            try:
                graph = ng.parse(text)
            except ParseError as error:
                assert re.match(r"line \d+, column \d+: ", str(error)), text
                refused += 1
                continue
            accepted += 1
            round_trip(graph)
    assert refused > 2000 and accepted > 200, (refused, accepted)


def test_random_characters_are_a_parse_error():
    rng = random.Random(1)
    for _ in range(500):
        text = "".join(rng.choice([*"(){}[]%@#,:=->\"\\/ \n.019aefgnrx", "graph ", "@f", "%0"]) for _ in range(rng.randint(1, 60)))
        with pytest.raises(NagraphError):
            ng.parse(text)


# -- versions of ops -------------------------------------------------------------------------------------------


@op
class Shifted(Op):
    """x + by, which was `offset` in version 1, a float."""

    name = "text_test_shifted"
    version = 2
    by: tuple[float, ...]

    @classmethod
    def upgraded(cls, attributes, version):
        return {"by": (attributes["offset"],)}

    def infer(self, x):
        return x


def test_long_tokens_make_no_long_messages():
    for token in ("1" * 5000, "x" * 5000, '"' + "y" * 5000 + '"'):
        with pytest.raises(ParseError) as caught:
            ng.parse(f"graph @f() -> (f32[]) {{ %0: f32[] = {token}() return %0 }}")
        assert all(len(line) < 600 for line in str(caught.value).splitlines())


def test_attributes_of_earlier_versions_are_read():
    text = """graph @f(%x: f32[2]) -> (f32[2]) {{ %0: f32[2] = text_test_shifted{{{}}}(%x) return %0 }}"""
    now = ng.parse(text.format("by=[1.5]"))
    assert ng.parse(text.format("offset=1.5"), versions={"text_test_shifted": 1, "add": 1}) == now
    assert ng.parse(text.format("by=[1.5]"), versions={"text_test_shifted": 2}) == now
    for attributes, versions, told in (
            ("offset=1.5", {}, "attribute offset is none; text_test_shifted has by"), ("by=[1.5]", {"text_test_shifted": 1}, "KeyError"),
            ("offset=true", {"text_test_shifted": 1}, "attribute by is not (True,)")):
        with pytest.raises(ParseError, match=re.escape(told)):
            ng.parse(text.format(attributes), versions=versions)


def test_constants_can_stand_elsewhere():
    array = np.arange(40, dtype=np.float32)
    graph = constant_graph(array)
    text, digest = format_graph(graph, blobs=False), f"sha256:{Constant.of(array).value.sha256}"
    array.flags.writeable = False
    found = ng.parse(text, constants={digest: array})
    assert found == graph and np.shares_memory(found.nodes[0].op.array, array), "nothing is copied"
    for other, told in ((array + 1, "not those that this sha256 names"), (array.reshape(8, 5), "the resource is f32[8,5], not f32[40]")):
        with pytest.raises(ParseError, match=re.escape(told)):
            ng.parse(text, constants={digest: other})
