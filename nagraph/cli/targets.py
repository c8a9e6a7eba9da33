"""Targets: what a command compiles, by the word that one types for it.

    gpt2                              a model of `nagraph.models`, at the sizes of its default recipe
    sgemm_1024                        an operation that `nagraph bench` times
    runs/gpt2                         a folder that `nagraph train` left: its model at its sizes
    net.py:loss(f32[3], f32[8,3])     a function in a script, with the types of its arguments
    package.net:loss(f32[batch,3])    a function of a module that can be imported from here, which leaves a size open
    graph.ng, -                       a graph in the text form, from a file or from standard input
    graph.ng(batch=2)                 the same, with numbers for the dimensions that it leaves open
    model.onnx(batch=2)               an ONNX model, with numbers for the sizes that it leaves open
    step.ngx(batch=2)                 a program file, with numbers for the sizes that it leaves open

Every command takes all of them; `resolve` is the one place that understands them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import inspect
import operator
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import nagraph as ng
from nagraph.errors import DataError, NagraphError, ParseError, SizeError
from nagraph.files import read_text
from nagraph.ir.location import Location, located, user_frames
from nagraph.ir.named_graph import NamedGraph
from nagraph.ir.sizes import described
from nagraph.ir.types import DTYPES
from nagraph.models import CLASSES
from nagraph.models.operations import CASES
from nagraph.models.tasks import task_class
from nagraph.models.training import load_model
from nagraph.models.workloads import Workload, has_layers, operation, to_its_end, work_of, workload
from nagraph.suggestions import suggestion

_FUNCTION = re.compile(r"(?P<place>[^:()]+):(?P<name>[A-Za-z_][\w.]*)(?:\((?P<types>.*)\))?", re.DOTALL)
_ONNX = re.compile(r"(?P<path>[^()]+\.onnx)(?:\((?P<sizes>[^()]*)\))?")
_PROGRAM = re.compile(r"(?P<path>[^()]+\.ngx)(?:\((?P<sizes>[^()]*)\))?")
_GRAPH = re.compile(r"(?P<path>-|[^()]+\.ng)\((?P<sizes>[^()]*)\)")
_SIZE = re.compile(r"\s*(?P<name>[^=,]+?)\s*=\s*(?P<size>\d{1,18})\s*")
_TYPE = re.compile(r"\s*(?P<dtype>\w+)\[(?P<shape>[\w,\s]*)\]\s*(?:,|$)")


@dataclass(frozen=True)
class GraphWork:
    """A graph is work without a function: the graph that was given, compiled and run on random arrays of its inputs' types."""

    given: Any
    #: The program that it is the graph of, which has its weights by name.
    program: Any = None
    items: int = 0
    unit: str = ""

    def graph(self) -> Any:
        return self.given

    def executable(self, backend: str | None = None, threads: int | None = None) -> Any:
        return ng.compile(self.known_graph(), backend=backend, threads=threads)

    def arrays(self) -> list[np.ndarray[Any, Any]]:
        return random_arrays([v.type for v in self.known_graph().inputs])

    def known_graph(self) -> Any:
        """The graph, whose sizes must be known to compile it."""
        if self.given.dims:
            shown = ", ".join(f"{d.name}={max(d.min, 2)}" for d in self.given.dims)
            file = "program.ngx" if self.program else "model.onnx" if isinstance(self.given, NamedGraph) else "graph.ng"
            raise DataError(f"graph {self.given.name} leaves sizes open ({described(self.given.dims)}); say how large they are, as in "
                            f"'{file}({shown})'")
        return self.given

    def calls(self, backend: str | None = None, threads: int | None = None) -> Callable[[], Any]:
        arrays = ng.device_put(self.arrays(), ng.backends.usable(backend).name)
        return to_its_end(functools.partial(self.executable(backend, threads), *arrays), backend)


class Target(NamedTuple):
    """A target is something to compile: what it is called in tables and names of files, and what it does."""

    title: str
    work: Workload | GraphWork


def resolve(text: str, step: str | None = None, layers: int | None = None, *, usual_step: str = "infer",
            usual_layers: int | None = None) -> Target:
    """The target that `text` names. DataError says what targets there are.

    step: "train" or "infer", and layers: the depth, of a model; None takes the usual ones.
    """
    place = pathlib.Path(text)
    if text in CLASSES:
        depth = usual_layers if layers is None and has_layers(task_class(text)) else layers
        return Target(f"{text} {step or usual_step}", workload(text, step or usual_step, depth))
    if layers is not None:
        raise DataError(f"{text} has no layers that could be chosen, which models have ({', '.join(CLASSES)})")
    if place.is_dir():
        model, task = load_model(place)
        return Target(f"{text} {step or usual_step}", work_of(task, step or usual_step, model))
    if step is not None:
        raise DataError(f"{text} has no training step to choose, which models have ({', '.join(CLASSES)})")
    if text in CASES:
        return Target(text, operation(text))
    if place.suffix == ".py" and place.exists():
        raise DataError(f"{text} is a script; name one of its functions, with the types of its arguments: '{text}:function(f32[2,3])'")
    if found := _ONNX.fullmatch(text):
        return Target(text, GraphWork(ng.from_onnx(found["path"], sizes=sizes_of(text, found["sizes"]))))
    if found := _PROGRAM.fullmatch(text):
        return Target(text, _program(text, found["path"], sizes_of(text, found["sizes"])))
    if found := _GRAPH.fullmatch(text):
        return Target(text, GraphWork(_specialised(text, _graph(found["path"]), sizes_of(text, found["sizes"]))))
    if text == "-" or place.suffix == ".ng" or place.exists():
        return Target("standard input" if text == "-" else text, GraphWork(_graph(text)))
    if found := _FUNCTION.fullmatch(text):
        return Target(f"{found['place']}:{found['name']}", _function(**found.groupdict()))
    raise DataError(f"unknown target {text!r}{suggestion(text, (*CLASSES, *CASES))}; there is a model ({', '.join(CLASSES)}), an operation "
                    f"({next(iter(CASES))}, ...), a folder that nagraph train left, script.py:function(f32[2,3]), "
                    "module:function(f32[2,3]), an ONNX model, model.onnx(batch=2), a program, step.ngx, and a graph, file.ng or "
                    "- for standard input")


def trained(text: str) -> pathlib.Path:
    """The folder of a trained model, for commands that need its weights. DataError if `text` is a model's name."""
    place = pathlib.Path(text)
    if text in CLASSES and not place.exists():
        raise DataError(f"{text} is a model without weights; name a folder that nagraph train left, such as runs/{text}")
    return place


def onnx_path(text: str) -> str | None:
    """The file of a target that is an ONNX model; None for other targets."""
    found = _ONNX.fullmatch(text)
    return None if found is None else found["path"]


def random_arrays(types: list[Any]) -> list[np.ndarray[Any, Any]]:
    """An array for each type: floats are normal, whole numbers 0 or 1, which are indices and labels of most things."""
    rng = np.random.default_rng(0)
    return [np.asarray(rng.standard_normal(t.shape) if np.dtype(t.dtype).kind not in "iub" else rng.integers(0, 2, t.shape)).astype(t.dtype)
            for t in types]


# -- graphs -----------------------------------------------------------------------------------------------


def _graph(text: str) -> Any:
    written = _standard_input() if text == "-" else read_text(text, DataError)
    try:
        return ng.parse(written)
    except ParseError as error:
        raise DataError(f"{text}: {error}") from None


def _specialised(text: str, graph: Any, sizes: dict[str, int]) -> Any:
    try:
        return graph.specialise(sizes)
    except NagraphError as error:
        raise DataError(f"{text}: {error}") from None


def _program(text: str, path: str, sizes: dict[str, int]) -> GraphWork:
    try:
        program = ng.load_program(path).specialise(sizes)
    except SizeError as error:
        raise DataError(f"{text}: {error}") from None
    return GraphWork(program.subject.closed, program)


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is no UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}") from None


def sizes_of(text: str, written: str | None) -> dict[str, int]:
    """The sizes in `batch=2, time=16`. DataError if they are none."""
    found = {}
    for part in (written or "").split(",") if (written or "").strip() else ():
        match = _SIZE.fullmatch(part)
        if match is None:
            raise DataError(f"{text}: {part.strip()!r} gives no size its number; write batch=2")
        found[match["name"]] = int(match["size"])
    return found


# -- functions --------------------------------------------------------------------------------------------


def _function(place: str, name: str, types: str | None) -> Workload:
    where = f"{place}:{name}"
    module = _module(place)
    try:
        function = operator.attrgetter(name)(module)
    except AttributeError:
        there = sorted(n for n, x in vars(module).items() if callable(x) and not isinstance(x, type) and not n.startswith("_"))
        raise DataError(f"{place} has no {name}{suggestion(name, there)}; its functions are {', '.join(there[:8]) or 'none'}") from None
    if not callable(function):
        raise DataError(f"{where} is no function, but {type(function).__name__}")
    specs = _types(where, function, types)

    @functools.wraps(function, updated=())
    def called(*args: Any) -> Any:
        with _told(where):
            return function(*args)

    called.__name__ = name.rpartition(".")[2]
    return Workload(where, lambda backend, threads: ng.jit(called, backend=backend, threads=threads),
                    tuple(specs if any(t.symbolic for t in specs) else random_arrays(specs)))


def _types(where: str, function: Callable[..., Any], text: str | None) -> list[Any]:
    """The types in `f32[3], i32[8,3]`. DataError if they are none, or if the function takes another number of arguments."""
    found: list[Any] = []
    end = 0
    while text is not None and end < len(text.rstrip()):
        match = _TYPE.match(text, end)
        if match is None or match["dtype"] not in DTYPES:
            raise DataError(f"{where}: {text[end:].strip()!r} does not begin with a type such as f32[2,3]; dtypes are {', '.join(DTYPES)}")
        try:
            found.append(ng.spec(tuple(int(n) if n.isdigit() else ng.Dim(n) for n in re.findall(r"\w+", match["shape"])),
                                 DTYPES[match["dtype"]]))
        except NagraphError as error:
            raise DataError(f"{where}: {error}") from None
        end = match.end()
    try:
        signature = inspect.signature(function)
    except ValueError:  # builtins that do not tell
        return found
    try:
        signature.bind(*found)
    except TypeError as error:
        raise DataError(f"{where}{signature} can't be called with {len(found)} arrays ({error}); "
                        f"name their types: '{where}(f32[2,3], ...)'") from None
    return found


def _module(place: str) -> Any:
    """The module of a script, whose folder comes first for its imports, or one that can be imported from the working directory."""
    script = pathlib.Path(place)
    if script.suffix == ".py" and not script.is_file():
        raise DataError(f"{place} does not exist")
    folder = str(script.resolve().parent if script.suffix == ".py" else pathlib.Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with _told(place):
        if script.suffix != ".py":
            try:
                return importlib.import_module(place)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{place}.".startswith(f"{error.name}."):
                    raise
                raise DataError(f"there is no module {error.name!r} to import; modules are looked for in {folder} first") from None
        spec: Any = importlib.util.spec_from_file_location(str(script), script)
        made = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their modules up
        spec.loader.exec_module(made)
        return made


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever the user's own code raises is a DataError that names the error and the line; errors of nagraph stay what they are."""
    try:
        yield
    except (NagraphError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise located(DataError(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}"), _line(error)) from error


def _line(error: BaseException) -> Location | None:
    """The innermost line of the user's code in a traceback."""
    if isinstance(error, SyntaxError):
        return Location(str(error.filename), error.lineno or 1)
    last = user_frames(error.__traceback__)
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return None if last is None else Location(last.tb_frame.f_code.co_filename, last.tb_lineno)
