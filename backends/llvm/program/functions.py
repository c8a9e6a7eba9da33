"""Compiled kernels, shared by all executables: equal ones are compiled once, and kept on disk."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nagraph import choices, sanitizing
from nagraph.backends import cache
from nagraph.backends.llvm.emission.emit import emit
from nagraph.backends.llvm.emission.kernel_function import Emitted
from nagraph.backends.llvm.emission.sorting import emit_sort
from nagraph.backends.llvm.native import files, winners
from nagraph.backends.llvm.native.machine_code import object_code
from nagraph.backends.llvm.program.loading import MachineCode
from nagraph.backends.llvm.text.builder import Module
from nagraph.backends.llvm.text.target import host
from nagraph.errors import ParseError
from nagraph.forks import Lock
from nagraph.kernel.form import Apply, Kernel
from nagraph.ops.sorting import Argsort
from nagraph.program.instructions import SortTask
from nagraph.program.keys import rules_are_ours
from nagraph.schedule import overrides
from nagraph.schedule.alternatives import alternatives
from nagraph.schedule.form import Schedule
from nagraph.schedule.strategy import choose
from nagraph.schedule.text import parse
from nagraph.schedule.verify import problem_of
from nagraph.thresholds import changed

#: Writes a function of the given name into a module.
Writer = Callable[[Module, str], Emitted]


class CompiledKernel(NamedTuple):
    """A compiled kernel: its key, the name of its file in the cache, how to launch it, the code, which has its LLVM text.

    schedule: what the code obeys; None for a sort. winner: the file of the cache that was asked for a tuner's schedule, and what it said.
    """

    key: str
    digest: str
    emitted: Emitted
    code: MachineCode
    schedule: Schedule | None = None
    winner: tuple[str, str] = ("", "")


#: Compiled kernels that stay although nobody uses them: those that were asked for last, by their key.
MOST = 4096
_KNOWN: OrderedDict[str, CompiledKernel] = OrderedDict()
#: Machine code that somebody holds, by digest.
_CODES: weakref.WeakValueDictionary[str, MachineCode] = weakref.WeakValueDictionary()
_LOCK = Lock()


class Entry(NamedTuple):
    """What the cache on disk keeps of a kernel."""

    emitted: Emitted
    text: str
    code: bytes


def compiled(key: str, write: Writer, keep: bool = True) -> CompiledKernel:
    """The machine code of what `write` emits, which must follow from the key and the choices alone; it is kept on disk if `keep`."""
    chosen = f"{choices.current()} {changed()} {'sanitized' if sanitizing.is_on() else ''}".strip()
    key = f"{key}\n{chosen}" if chosen else key
    with _LOCK:
        found = _KNOWN.get(key)
        if found is None:
            digest = files.digest("kernel", key)
            entry = (_kept(digest) if keep else None) or _compile(digest, write, keep)
            found = _KNOWN[key] = CompiledKernel(key, digest, entry.emitted, _CODES.get(digest) or _held(digest, entry))
        _KNOWN.move_to_end(key)
        while len(_KNOWN) > MOST:
            _KNOWN.popitem(last=False)
        return found


def codes(digests: Sequence[str]) -> list[MachineCode] | None:
    """The kernels of these digests, from the cache where need be; None if one is not there."""
    with _LOCK:
        found = []
        for digest in digests:
            code = _CODES.get(digest)
            if code is None:
                entry = _kept(digest)
                if entry is None:
                    return None
                code = _held(digest, entry)
            found.append(code)
        return found


def _held(digest: str, entry: Entry) -> MachineCode:
    code = _CODES[digest] = MachineCode(_symbol(digest), entry.text, entry.code)
    return code


def _compile(digest: str, write: Writer, keep: bool) -> Entry:
    module = Module()
    emitted = write(module, _symbol(digest))
    text = str(module)
    entry = Entry(emitted, text, object_code(text))
    if keep:
        cache.store("kernel", digest, {"emitted": emitted, "text": text}, [entry.code])
    return entry


def _kept(digest: str) -> Entry | None:
    """The kernel as it is on disk."""
    found = cache.load("kernel", digest)
    return found and Entry(Emitted(*found[0]["emitted"]), found[0]["text"], found[1])


def _symbol(digest: str) -> str:
    """The name of a kernel's function."""
    return f"k{digest[:16]}"


def kernel_of(work: Kernel | SortTask) -> CompiledKernel:
    """A kernel or a sort, compiled: a kernel by the schedule that was given for it, else one that a tuner found, else the strategy's.

    What a user's own op says of one element may change: that is not kept on disk.
    """
    if isinstance(work, SortTask):
        x, indices = work.type, isinstance(work.op, Argsort)
        return compiled(f"{work.op} {x} {work.layout}",
                        lambda module, name: emit_sort(module, name, x.dtype, x.shape, work.layout, work.op.axis, indices))
    text = str(work)
    schedule, winner = schedule_of(work, text)
    return scheduled(work, text, schedule)._replace(winner=winner)


class FoundSchedule(NamedTuple):
    """The schedule of a kernel on this machine. winner: the file of the cache that was asked for a tuner's schedule, and what it said."""

    schedule: Schedule
    winner: tuple[str, str]


def schedule_of(kernel: Kernel, text: str) -> FoundSchedule:
    """The schedule that was given for a kernel of this text, else one that a tuner found, else the strategy's."""
    given = overrides.current().of(kernel, host())
    file = winners.file_of(text) if given is None else ""
    won = winners.winner(file)
    return FoundSchedule(given or _legal(kernel, won) or _chosen(kernel, text), (file, won))


def scheduled(kernel: Kernel, text: str, schedule: Schedule, keep: bool = True) -> CompiledKernel:
    """A kernel of this text, compiled by a schedule that is legal for it; kept on disk if `keep`, and if it has no op of a user's own."""
    known = keep and all(rules_are_ours(i.op) for s in kernel.stages for i in s.body if isinstance(i, Apply))
    made = compiled(f"{text}\n{schedule}", lambda module, name: emit(module, kernel, name, schedule), keep=known)
    return made._replace(schedule=schedule)


def _chosen(kernel: Kernel, text: str) -> Schedule:
    """The strategy's schedule; where choices want another, one of its alternatives."""
    schedule = choose(kernel, host())
    if choices.takes("alternative", False, text):
        return choices.pick("alternative", alternatives(kernel, schedule, host()) or [schedule], text)
    return schedule


def _legal(kernel: Kernel, text: str) -> Schedule | None:
    """The schedule that a file of the cache holds, if it does, and if that is legal."""
    try:
        found = parse(text) if text else None
    except ParseError:
        return None
    return found if found is not None and not problem_of(kernel, found, host()) else None
