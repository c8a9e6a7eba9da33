"""Fused multiply-adds of machines that have none, such as WebAssembly: functions in their place.

Those by `elementary.fused` are exact, of twenty operations where a CPU has one. Engines of WebAssembly have a multiply-add since 2023
that they round once or twice, always alike; where it is once (on x86-64 with FMA, on arm64) code that uses it gives the same bits. So
there may be two objects of a program, and whoever loads them asks `FUSES` of the second one whether it may be used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from nagraph.backends.llvm.text.builder import Module, Reg, vector
from nagraph.backends.llvm.text.lanes import element_type
from nagraph.backends.llvm.text.machines import Machine
from nagraph.backends.llvm.text.narrowing_lanes import NarrowingLanes
from nagraph.elementary.fused import fused_multiply_add
from nagraph.ir.scalar import F32, F64, Scalar
from nagraph.ir.types import DTYPES, DType

#: i32 fuses(): whether this engine rounds multiply-adds once.
FUSES = "fuses"
#: An attribute of functions that have what engines got in 2023.
_RELAXED = '"target-features"="+simd128,+relaxed-simd"'
_FMA = re.compile(r"@llvm\.fma\.((?:v(\d+))?(f32|f64))\(")
_SHORT = {F32: "f32", F64: "f64"}
#: Writes x y + z.
Rule = Callable[[NarrowingLanes, Scalar, Scalar, Scalar], Scalar]


def with_functions(texts: Sequence[str], machine: Machine) -> list[str]:
    """The texts of modules, which call functions in the place of LLVM's fused multiply-adds, and of the module that defines these.

    They are exact, or `linked`, as `machine.multiply_adds` says. Those that are short want to be inlined.
    """
    linked = machine.multiply_adds == "linked"
    module = Module(machine.target)
    for width, short in sorted({(int(m[2] or 1), m[3]) for text in texts for m in _FMA.finditer(text)}):
        placed = "noinline" if short == "f64" and not linked else "alwaysinline"
        _function(module, _name("exact", width, DTYPES[short]), width, DTYPES[short], _call if linked else fused_multiply_add, placed)
    called = [_FMA.sub(lambda m: f"@{_name('exact', int(m[2] or 1), DTYPES[m[3]])}(", text) for text in texts]
    return [*called, str(module)]


def engine_module(machine: Machine, prefix: str) -> str:
    """The text of a module: what is `linked`, by WebAssembly's relaxed multiply-add, and `FUSES`; names begin with the prefix.

    The latter computes (1 + e)² - (1 + 2e): e² rounded once, 0 twice. It is an object of its own, since code generation that may use such
    instructions takes others too that engines round as they like.
    """
    module = Module(machine.target)
    for dtype in (F32, F64):
        for width in (1, machine.target.lanes(dtype)):
            _function(module, prefix + _name("linked", width, dtype), width, dtype, _relaxed, _RELAXED)
    code = module.function(prefix + FUSES, "i32", [], attributes=f"nounwind {_RELAXED}")
    found = Reg("i1", "true")
    for dtype, digits in ((F32, 12), (F64, 27)):
        lanes = NarrowingLanes(code, machine.target.lanes(dtype))
        x, z = (lanes.constant(v, dtype) for v in (1 + 2.0**-digits, -1 - 2.0**(1 - digits)))
        same = lanes.eq(_relaxed(lanes, x, x, z), 2.0**(-2 * digits)).raw
        found = code.binary("and", found, code.call(f"llvm.vector.reduce.and.v{lanes.width}i1", "i1", same))
    code.ret(code.convert("zext", found, "i32"))
    return str(module)


def _name(kind: str, width: int, dtype: DType) -> str:
    return f"nagraph.fma.{kind}.{f'v{width}' if width > 1 else ''}{_SHORT[dtype]}"


def _function(module: Module, name: str, width: int, dtype: DType, rule: Rule, attributes: str) -> None:
    kind = vector(width, element_type(dtype))
    code = module.function(name, kind, [kind] * 3, attributes=f"nounwind {attributes}")
    lanes = NarrowingLanes(code, width)
    x, y, z = (Scalar(lanes, dtype, a) for a in code.arguments)
    code.ret(rule(lanes, x, y, z).raw)


def _call(lanes: NarrowingLanes, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
    """x y + z by what is linked: a number, or one vector of the machine after another."""
    width = 1 if lanes.width == 1 else lanes.code.module.target.lanes(x.dtype)
    return _by_registers(lanes, _name("linked", width, x.dtype), width, x, y, z)


def _relaxed(lanes: NarrowingLanes, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
    """x y + z, rounded once or twice: the engine's instruction, on whole vectors."""
    width = lanes.code.module.target.lanes(x.dtype)
    return _by_registers(lanes, f"llvm.wasm.relaxed.madd.v{width}{_SHORT[x.dtype]}", width, x, y, z)


def _by_registers(lanes: NarrowingLanes, name: str, width: int, *operands: Scalar) -> Scalar:
    """A function of so many lanes, on all of them."""
    dtype = operands[0].dtype
    kind = vector(width, element_type(dtype))
    if width == lanes.width:
        return Scalar(lanes, dtype, lanes.code.call(name, kind, *(v.raw for v in operands)))
    parts = [lanes.code.call(name, kind, *some) for some in zip(*(lanes.registers(v.raw, kind) for v in operands))]
    return Scalar(lanes, dtype, lanes.from_registers(parts, operands[0].raw.type))
