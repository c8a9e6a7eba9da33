"""Instructions on whole vectors: masks, loads and stores in part, fma, prefetching."""

from __future__ import annotations

from nagraph.backends.llvm.text.builder import FunctionBuilder, Reg, i64, suffix, vector, vector_parts


def minimum(code: FunctionBuilder, a: Reg, b: Reg) -> Reg:
    """The smaller one of two integers."""
    return code.intrinsic("smin", "i64", a, b)


def ceil_div(code: FunctionBuilder, a: Reg, b: Reg) -> Reg:
    """⌈a / b⌉ of positive integers."""
    return code.binary("udiv", code.sub(code.add(a, b), i64(1)), b)


def splat(code: FunctionBuilder, value: Reg, kind: str) -> Reg:
    """The value in every lane."""
    if kind == value.type:
        return value
    first = code.emit(kind, f"insertelement {kind} poison, {value}, i64 0")
    return code.emit(kind, f"shufflevector {first}, {kind} poison, <{vector_parts(kind)[0]} x i32> zeroinitializer")


def first_lanes(code: FunctionBuilder, lanes: int, count: Reg) -> Reg:
    """A mask of the first `count` lanes: of none if it is not positive, of all if it exceeds them."""
    kind = vector(lanes, "i64")
    numbers = ", ".join(f"i64 {i}" for i in range(lanes))
    return code.emit(vector(lanes, "i1"), f"icmp slt {kind} <{numbers}>, {splat(code, count, kind).text}")


def fma(code: FunctionBuilder, a: Reg, b: Reg, c: Reg) -> Reg:
    """a b + c, rounded once."""
    name = f"llvm.fma.{suffix(c.type)}"
    code.module.declare(name, c.type, [c.type] * 3)
    return code.emit(c.type, f"call {c.type} @{name}({a}, {b}, {c})")


def load(code: FunctionBuilder, kind: str, pointer: Reg, align: int, mask: Reg | None) -> Reg:
    """A vector; with a mask only its lanes, zeros elsewhere."""
    if mask is None:
        return code.load(kind, pointer, align)
    aligned, zeros = Reg("i32", str(align)), Reg(kind, "zeroinitializer")
    return code.call(f"llvm.masked.load.{suffix(kind)}.p0", kind, pointer, aligned, mask, zeros)


def store(code: FunctionBuilder, value: Reg, pointer: Reg, align: int, mask: Reg | None) -> None:
    """Store a vector; with a mask only its lanes."""
    if mask is None:
        code.store(value, pointer, align)
    else:
        code.call(f"llvm.masked.store.{suffix(value.type)}.p0", "void", value, pointer, Reg("i32", str(align)), mask)


def prefetch(code: FunctionBuilder, pointer: Reg, nbytes: int, write: bool = False) -> None:
    """Ask for cache lines: those to be written for the first cache, others for the second. Any address will do."""
    code.module.declare("llvm.prefetch.p0", "void", ["ptr", "i32", "i32", "i32"])
    for start in range(0, nbytes, 64):
        place = code.emit("ptr", f"getelementptr i8, {pointer}, i64 {start}") if start else pointer
        code.do(f"call void @llvm.prefetch.p0({place}, i32 {int(write)}, i32 {3 if write else 2}, i32 1)")
