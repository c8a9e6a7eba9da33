"""Machines that code is compiled for ahead of time: this one, levels of x86-64, arm64 under Linux and macOS, WebAssembly."""

from __future__ import annotations

import functools
from typing import NamedTuple

import llvmlite.binding as llvm

from nagraph.backends.host import USUAL_CACHES
from nagraph.backends.llvm.text.target import cpu, host
from nagraph.errors import SignatureError
from nagraph.schedule.target import Target
from nagraph.suggestions import suggestion

#: Cores of a machine of which nobody knows how many it has.
USUAL_CORES = 8


class Machine(NamedTuple):
    """A machine as code is compiled for it: its name for users, LLVM's triple, CPU and features, and what schedules know of it.

    pointer_nbytes: of an address. clock: the number of the system's exact clock; None for a system without threads and libraries.
    multiply_adds: who computes fused ones: the "machine", functions in their place that are "exact", or others that are "linked".
    """

    name: str
    triple: str
    cpu: str
    features: str
    target: Target
    pointer_nbytes: int = 8
    clock: int | None = 1
    multiply_adds: str = "machine"

    @property
    def is_this(self) -> bool:
        """Whether kernels are scheduled as those that run here."""
        return self.target == host()

    @property
    def system(self) -> str:
        """The system's name in the triple: linux, darwin, or unknown."""
        return "darwin" if "macos" in self.triple or "darwin" in self.triple else "linux" if "linux" in self.triple else "unknown"

    def code_generator(self) -> llvm.TargetMachine:
        """A new target machine of LLVM's, for position-independent code. SignatureError if this LLVM knows no such processor."""
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        try:
            target = llvm.Target.from_triple(self.triple)
        except RuntimeError:
            raise SignatureError(f"the LLVM of this llvmlite generates no code for {self.name} ({self.triple})") from None
        return target.create_target_machine(cpu=self.cpu, features=self.features, opt=2, reloc="pic", codemodel="small")


def _target(name: str, vector_nbytes: int, registers: int, masks: bool = False, scales: bool = False, cores: int = USUAL_CORES) -> Target:
    return Target(name, vector_nbytes, registers, masks, scales, USUAL_CACHES, cores=cores)


def _x86(level: int, *sizes: int, masks: bool = False, scales: bool = False) -> Machine:
    name = f"x86-64-v{level}"
    return Machine(name, "x86_64-unknown-linux-gnu", name, "", _target(name, *sizes, masks=masks, scales=scales))


_MACHINES = {m.name: m for m in (
    _x86(2, 16, 16),
    _x86(3, 32, 16, masks=True),
    _x86(4, 64, 32, masks=True, scales=True),
    Machine("aarch64-linux", "aarch64-unknown-linux-gnu", "generic", "+neon,+fp-armv8", _target("generic", 16, 32)),
    Machine("arm64-macos", "arm64-apple-macosx11.0.0", "apple-m1", "", _target("apple-m1", 16, 32), clock=6),
    Machine("wasm32", "wasm32-unknown-unknown", "generic", "+simd128,+bulk-memory,+nontrapping-fptoint,+sign-ext,+mutable-globals",
            _target("generic", 16, 16, cores=1), 4, None, "exact"),
)}
#: What a user may name.
NAMES = ("native", *_MACHINES)


@functools.cache
def native() -> Machine:
    """This machine: code that is compiled for it may run on no other one."""
    triple = llvm.get_default_triple()
    return Machine("native", triple, *cpu(), host(), clock=6 if "darwin" in triple or "macos" in triple else 1)


def machine(name: str) -> Machine:
    """The machine of a name, one of `NAMES`. Raises SignatureError."""
    if name == "native":
        return native()
    if name not in _MACHINES:
        raise SignatureError(f"there is no target {name!r:.80}{suggestion(name, NAMES)}; there is {', '.join(NAMES)}")
    return _MACHINES[name]
