"""Tuning: of each kernel that costs much, a handful of legal schedules is measured on real data, and the fastest is kept.

The search knows no backend: a `Bench` runs a program with the schedules that it is asked for, and says what each kernel took and what
came out. A schedule whose results have other bits than those of the first is never kept.

Source: Chen et al., Learning to Optimize Tensor Programs (2018), without the learning: there are few candidates.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from nagraph.kernel.form import Kernel
from nagraph.schedule.alternatives import alternatives
from nagraph.schedule.form import Schedule
from nagraph.schedule.target import Target

#: The part of a call's time from which a kernel is worth being tuned, and how many kernels at most.
LEAST_SHARE, MOST_KERNELS = 0.02, 16
#: Runs of each candidate; steps from one schedule to a better one; runs that decide in the end.
REPEATS, STEPS, FINAL = 3, 2, 7
#: A candidate is tried again where it took less than this part of the time, and kept where it did so in the end.
WORTH = 0.97


class Run(NamedTuple):
    """A run of a program: nanoseconds by the names of kernels, and a digest of the bits of its results."""

    nanoseconds: Mapping[str, float]
    bits: str


class Bench(Protocol):
    """A bench runs one program on one set of arguments. kernels, schedules: what of it can be tuned, by name, and how that runs now."""

    kernels: Mapping[str, Kernel]
    schedules: Mapping[str, Schedule]

    def run(self, schedules: Mapping[str, Schedule]) -> Run:
        """Run the program with these schedules in place of what its kernels have."""

    def keep(self, name: str, schedule: Schedule) -> None:
        """Let a kernel have a schedule from now on, in all that is compiled."""


class Tuned(NamedTuple):
    """What tuning made of one kernel: its share of the time of all kernels, nanoseconds in a call before and after, schedules before and
    after, how many were measured.

    wrong: schedules with other bits, which is a fault of nagraph; they are not kept.
    """

    name: str
    share: float
    before_ns: float
    after_ns: float
    before: Schedule
    after: Schedule
    tried: int
    wrong: tuple[Schedule, ...] = ()

    @property
    def gain(self) -> float:
        """How many times as fast it is."""
        return self.before_ns / self.after_ns


#: Told how many runs are done, of how many, and what is done now.
Listener = Callable[[int, int, str], None]


class Tuning(NamedTuple):
    """What tuning found, kernel by kernel, the costliest first."""

    kernels: tuple[Tuned, ...]

    @property
    def gain(self) -> float:
        """How many times as fast all kernels of a call together are."""
        return 1 / (1 - sum(t.share * (1 - 1 / t.gain) for t in self.kernels))

    def __str__(self) -> str:
        lines = [f"{t.before_ns / 1e3:9.1f} us -> {t.after_ns / 1e3:9.1f} us  {t.gain:5.2f} times as fast, {t.tried:3} tried  {t.name}"
                 for t in self.kernels]
        return "\n".join([*lines, f"all kernels of a call together are {self.gain:.2f} times as fast"])


def tune(bench: Bench, target: Target, listener: Listener = lambda done, total, what: None) -> Tuning:
    """Measure alternatives of the costly kernels of a program, and keep the winners."""
    bench.run({})
    base = _least([bench.run({}) for _ in range(REPEATS)])
    total = sum(base.nanoseconds.values())
    costly = sorted((n for n in bench.kernels if base.nanoseconds.get(n, 0) >= LEAST_SHARE * total), key=lambda n: -base.nanoseconds[n])
    searches = {n: _Search(n, bench.kernels[n], bench.schedules[n], base.nanoseconds[n] / total) for n in costly[:MOST_KERNELS]}
    for step in range(STEPS):
        for search in searches.values():
            search.extend(target)
        rounds = max((len(s.waiting) for s in searches.values()), default=0)
        for done in range(rounds):
            listener(step * rounds + done, STEPS * rounds, f"{sum(len(s.waiting) > 0 for s in searches.values())} kernels")
            _try(bench, base.bits, {n: s.waiting.pop(0) for n, s in searches.items() if s.waiting}, searches)
    return Tuning(tuple(_decided(bench, s, base.bits) for s in searches.values()))


class _Search:
    """The search for one kernel: what is yet to be measured, what each schedule took, and the best one so far."""

    def __init__(self, name: str, kernel: Kernel, schedule: Schedule, share: float):
        self.name, self.kernel, self.first, self.share = name, kernel, schedule, share
        self.waiting: list[Schedule] = []
        self.seen, self.ratios, self.wrong = {schedule}, {schedule: 1.0}, list[Schedule]()

    @property
    def best(self) -> Schedule:
        return min(self.ratios, key=lambda s: self.ratios[s])

    def extend(self, target: Target) -> None:
        """Queue the alternatives of the best schedule so far; nothing new where that is the one of the step before."""
        new = alternatives(self.kernel, self.best, target, self.seen)
        self.seen |= {*new}
        self.waiting += new


def _least(runs: Sequence[Run]) -> Run:
    """The least time of each kernel over runs."""
    return Run({n: min(r.nanoseconds[n] for r in runs) for n in runs[0].nanoseconds}, runs[0].bits)


def _try(bench: Bench, bits: str, given: Mapping[str, Schedule], searches: Mapping[str, _Search]) -> None:
    """Measure one candidate of each kernel, all in one program, beside the schedules that they had first."""
    pairs = [(bench.run({}), bench.run(given)) for _ in range(REPEATS)]
    if any(after.bits != bits for _, after in pairs):
        if len(given) > 1:
            for name, schedule in given.items():
                _try(bench, bits, {name: schedule}, searches)
        else:
            for name, schedule in given.items():
                searches[name].wrong.append(schedule)
        return
    before, after = (_least([pair[i] for pair in pairs]) for i in (0, 1))
    for name, schedule in given.items():
        searches[name].ratios[schedule] = after.nanoseconds[name] / max(before.nanoseconds[name], 1.0)


def _decided(bench: Bench, search: _Search, bits: str) -> Tuned:
    """Measure the best schedule once more against the first, in turn; keep it if it is worth it."""
    name, best = search.name, search.best
    runs = [bench.run({name: s}) for _ in range(FINAL) for s in (search.first, best)]
    before, after = (statistics.median(r.nanoseconds[name] for r in runs[i::2]) for i in (0, 1))
    if best == search.first or after > WORTH * before or any(r.bits != bits for r in runs):
        best, after = search.first, before
    else:
        bench.keep(name, best)
    return Tuned(name, search.share, before, after, search.first, best, len(search.ratios) - 1, tuple(search.wrong))
