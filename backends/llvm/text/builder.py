"""The text of LLVM functions, written instruction by instruction: small, typed, and fast to make."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from nagraph.backends.llvm.text.target import host
from nagraph.schedule.target import Target

#: The runtime's function that tells whether the call in which a kernel runs was abandoned; it lets signal handlers run.
LEAVE = "nagraph_leave"
#: Iterations of a loop between two polls, for loops without and with others inside.
POLL_PERIOD, POLL_OUTER_PERIOD = 1 << 14, 1 << 5


class Reg(NamedTuple):
    """An operand of an instruction: its LLVM type, and how the text writes it ("%7", "0", "zeroinitializer")."""

    type: str
    text: str

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


def i64(value: int) -> Reg:
    """A constant of 64 bits."""
    return Reg("i64", str(value))


def i32(value: int) -> Reg:
    """A constant of 32 bits."""
    return Reg("i32", str(value))


def constant(type: str, text: str) -> Reg:
    """A constant; a vector type gets the same value in every lane."""
    count, element = vector_parts(type)
    if count == 1:
        return Reg(type, text)
    return Reg(type, "zeroinitializer") if text in ("0", "false") else Reg(type, f"splat ({element} {text})")


def vector(count: int, element: str) -> str:
    """The type of `count` lanes; of one lane, the element itself."""
    return element if count == 1 else f"<{count} x {element}>"


def vector_parts(type: str) -> tuple[int, str]:
    """(lanes, element type) of a type."""
    if not type.startswith("<"):
        return 1, type
    count, _, element = type[1:-1].partition(" x ")
    return int(count), element


class Module:
    """A module: functions and declarations that are compiled together, for a target: this machine, unless another is given.

    slot: the LLVM type of a slot in tables of pointers, which has 64 bits on every machine. polls: whether long loops poll at all.
    """

    def __init__(self, target: Target | None = None, slot: str = "ptr", polls: bool = True) -> None:
        self.target = target or host()
        self.slot, self.polls = slot, polls
        self.declarations: dict[str, str] = {}
        self.functions: list[FunctionBuilder] = []

    def declare(self, name: str, result: str, arguments: Sequence[str]) -> None:
        """Declare a function that is defined elsewhere."""
        self.declarations[name] = f"declare {result} @{name}({', '.join(arguments)})"

    def function(self, name: str, result: str, arguments: Sequence[str], **options: str) -> FunctionBuilder:
        code = FunctionBuilder(self, name, result, arguments, **options)
        self.functions.append(code)
        return code

    def __str__(self) -> str:
        return "\n".join([*self.declarations.values(), "", *map(str, self.functions)])


class FunctionBuilder:
    """A builder writes one function, instruction by instruction.

    arguments: LLVM types with attributes ("ptr noalias"); `code.arguments` are their registers.
    """

    def __init__(self, module: Module, name: str, result: str, arguments: Sequence[str], linkage: str = "",
                 attributes: str = 'nounwind "min-legal-vector-width"="512"'):
        self.module = module
        self.arguments = [Reg(a.partition(" ")[0] if not a.startswith("<") else a, f"%a{i}") for i, a in enumerate(arguments)]
        listed = ", ".join(f"{a} %a{i}" for i, a in enumerate(arguments))
        self._head = f"define {linkage} {result} @{name}({listed}) {attributes} {{".replace("  ", " ")
        self._entry: list[str] = []
        self.lines: list[str] = []
        self._count = 0
        self.block = "entry"
        #: Whether loops that take long poll whether their call was abandoned, and then end the function.
        self.polls = False
        self._polled = False

    def __str__(self) -> str:
        left = ["left:", "  ret void"] if self._polled else []
        return "\n".join([self._head, "entry:", *self._entry, *self.lines, *left, "}"])

    def fresh(self, hint: str = "") -> str:
        """A name that the function does not have yet."""
        self._count += 1
        return f"{hint}{self._count}"

    def table(self, numbers: Sequence[int]) -> Reg:
        """The address of a constant array of i64."""
        text = f"[{len(numbers)} x i64] [{', '.join(f'i64 {n}' for n in numbers)}]"
        name = f"table{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self.module.declarations[name] = f"@{name} = internal constant {text}"
        return Reg("ptr", f"@{name}")

    # -- instructions ---------------------------------------------------------------------------------

    def emit(self, type: str, text: str) -> Reg:
        """%n = text, of the type."""
        name = f"%{self.fresh('v')}"
        self.lines.append(f"  {name} = {text}")
        return Reg(type, name)

    def do(self, text: str) -> None:
        """An instruction without a result."""
        self.lines.append(f"  {text}")

    def binary(self, name: str, a: Reg, b: Reg) -> Reg:
        """add, fmul, and, shl, ...: the result has the type of a."""
        return self.emit(a.type, f"{name} {a}, {b.text}")

    def unary(self, name: str, a: Reg) -> Reg:
        return self.emit(a.type, f"{name} {a}")

    def compare(self, name: str, a: Reg, b: Reg) -> Reg:
        """"icmp slt", "fcmp oeq", ...: i1 in each lane."""
        return self.emit(vector(vector_parts(a.type)[0], "i1"), f"{name} {a}, {b.text}")

    def select(self, condition: Reg, a: Reg, b: Reg) -> Reg:
        return self.emit(a.type, f"select {condition}, {a}, {b}")

    def convert(self, name: str, a: Reg, type: str) -> Reg:
        """sext, fptrunc, bitcast, ...: to the type."""
        return self.emit(type, f"{name} {a} to {type}")

    def call(self, name: str, result: str, *arguments: Reg) -> Reg:
        """A call of a function that the module defines, or that is declared here and now."""
        if not any(f._head.find(f" @{name}(") >= 0 for f in self.module.functions):
            self.module.declare(name, result, [a.type for a in arguments])
        text = f"call {result} @{name}({', '.join(map(str, arguments))})"
        if result == "void":
            self.do(text)
            return Reg("void", "")
        return self.emit(result, text)

    def intrinsic(self, name: str, result: str, *arguments: Reg) -> Reg:
        """@llvm.NAME.SUFFIX, the suffix being that of the result's type."""
        return self.call(f"llvm.{name}.{suffix(result)}", result, *arguments)

    # -- integers ---------------------------------------------------------------------------------------

    def add(self, a: Reg, b: Reg) -> Reg:
        """a + b of integers, folded where both or one are known."""
        if b.text == "0":
            return a
        if a.text == "0":
            return b
        if _known(a) and _known(b):
            return Reg(a.type, str(int(a.text) + int(b.text)))
        return self.emit(a.type, f"add nsw {a}, {b.text}")

    def mul(self, a: Reg, b: Reg) -> Reg:
        if a.text == "0" or b.text == "0":
            return Reg(a.type, "0")
        if b.text == "1":
            return a
        if a.text == "1":
            return b
        if _known(a) and _known(b):
            return Reg(a.type, str(int(a.text) * int(b.text)))
        return self.emit(a.type, f"mul nsw {a}, {b.text}")

    def sub(self, a: Reg, b: Reg) -> Reg:
        if b.text == "0":
            return a
        if _known(a) and _known(b):
            return Reg(a.type, str(int(a.text) - int(b.text)))
        return self.emit(a.type, f"sub nsw {a}, {b.text}")

    # -- memory -----------------------------------------------------------------------------------------

    def offset(self, pointer: Reg, element: str, index: Reg) -> Reg:
        """The address of element `index` behind the pointer."""
        if index.text == "0":
            return pointer
        return self.emit("ptr", f"getelementptr inbounds {element}, {pointer}, {index}")

    def load(self, type: str, pointer: Reg, align: int, note: str = "") -> Reg:
        return self.emit(type, f"load {type}, {pointer}, align {align}{note}")

    def store(self, value: Reg, pointer: Reg, align: int, note: str = "") -> None:
        self.do(f"store {value}, {pointer}, align {align}{note}")

    def reserve(self, type: str, count: int, align: int = 64) -> Reg:
        """Memory on the stack for the time of the function."""
        name = f"%{self.fresh('s')}"
        self._entry.append(f"  {name} = alloca {type}, i64 {count}, align {align}")
        return Reg("ptr", name)

    # -- control ----------------------------------------------------------------------------------------

    def label(self, name: str) -> None:
        """Begin a block; what stands before must have jumped."""
        self.lines.append(f"{name}:")
        self.block = name

    def jump(self, name: str) -> None:
        self.do(f"br label %{name}")

    def branch(self, condition: Reg, then: str, otherwise: str) -> None:
        self.do(f"br {condition}, label %{then}, label %{otherwise}")

    def ret(self, value: Reg | None = None) -> None:
        self.do("ret void" if value is None else f"ret {value}")

    @contextmanager
    def loop(self, start: Reg, stop: Reg, step: int | Reg = 1, carried: Sequence[Reg] = (), known: bool = False) -> Iterator[Loop]:
        """for i in range(start, stop, step), with values carried from one iteration to the next: set `loop.carried` to the next ones.

        known: there is at least one iteration. After it, `loop.carried` holds the last values.
        """
        stride = i64(step) if isinstance(step, int) else step
        if _known(start) and _known(stop):
            known = int(start.text) < int(stop.text)
            if not known:
                raise ValueError("a loop without an iteration; leave it out")
        head, done, before = self.fresh("loop"), self.fresh("done"), self.block
        if known:
            self.jump(head)
        else:
            self.branch(self.compare("icmp slt", start, stop), head, done)
        self.label(head)
        index = Reg(start.type, f"%{self.fresh('i')}")
        phis = [Reg(c.type, f"%{self.fresh('p')}") for c in carried]
        place = len(self.lines)
        self.lines += [""] * (1 + len(phis))
        loop = Loop(index, list(phis))
        yield loop
        if self.polls and self.module.polls:
            self._poll(index, stride, inner=not any(line.startswith("loop") for line in self.lines[place:]))
        following = self.add(index, stride)
        again = self.compare("icmp slt", following, stop)
        latch = self.block
        self.branch(again, head, done)
        self.lines[place] = f"  {index.text} = phi {index.type} [ {start.text}, %{before} ], [ {following.text}, %{latch} ]"
        for n, (phi, first, last) in enumerate(zip(phis, carried, loop.carried, strict=True), 1):
            self.lines[place + n] = f"  {phi.text} = phi {phi.type} [ {first.text}, %{before} ], [ {last.text}, %{latch} ]"
        self.label(done)
        if not known:
            loop.carried = [self.emit(c.type, f"phi {c.type} [ {c.text}, %{before} ], [ {last.text}, %{latch} ]")
                            for c, last in zip(carried, loop.carried)]

    def _poll(self, index: Reg, stride: Reg, inner: bool) -> None:
        """End the function if its call was abandoned: polled once in so many iterations, as the index of the loop says."""
        period = (POLL_PERIOD if inner else POLL_OUTER_PERIOD) * (int(stride.text) if _known(stride) else 1)
        period = 1 << (period - 1).bit_length()
        ask, on = self.fresh("ask"), self.fresh("on")
        place = self.binary("and", index, i64(period - 1))
        self.branch(self.compare("icmp uge", place, self.sub(i64(period), stride)), ask, on)
        self.label(ask)
        self.branch(self.call(LEAVE, "i1"), "left", on)
        self.label(on)
        self._polled = True

    @contextmanager
    def when(self, condition: Reg) -> Iterator[None]:
        """A block that runs if the condition holds."""
        then, done = self.fresh("then"), self.fresh("done")
        self.branch(condition, then, done)
        self.label(then)
        yield
        self.jump(done)
        self.label(done)


class Loop:
    """The index of a loop, and the values that it carries on."""

    def __init__(self, index: Reg, carried: list[Reg]):
        self.index = index
        self.carried = carried


def suffix(type: str) -> str:
    """v16f32 for <16 x float>, as intrinsics are named."""
    count, element = vector_parts(type)
    short = {"float": "f32", "double": "f64", "half": "f16", "ptr": "p0"}.get(element, element)
    return short if count == 1 else f"v{count}{short}"


def _known(r: Reg) -> bool:
    return r.text.lstrip("-").isdigit()
