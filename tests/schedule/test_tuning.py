"""Tuning: other schedules of a kernel change no bit, the fastest is found and kept, and a bad default is mended."""

from __future__ import annotations

import numpy as np
import pytest

import nagraph as ng
from nagraph import sanitizing
from nagraph.backends import cache
from nagraph.backends.llvm.native import winners
from nagraph.backends.llvm.text.target import host
from nagraph.errors import SignatureError
from nagraph.schedule import strategy, tuning
from nagraph.schedule.alternatives import MOST, alternatives
from nagraph.schedule.form import Lanes, Product
from nagraph.schedule.names import name_of
from nagraph.schedule.tuning import Run, tune
from nagraph.schedule.verify import problem_of
from tests.schedule.test_schedules import FUNCTIONS, case


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setattr(cache, "folder", lambda: tmp_path)
    winners.forget()
    yield tmp_path
    winners.forget()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_alternatives_are_legal_few_and_without_the_schedule_itself(name):
    for kernel in case(name)[2].kernels:
        chosen = case(name)[2].schedule(kernel)
        found = alternatives(kernel, chosen, host())
        assert len(found) == len({*found}) <= MOST and chosen not in found
        assert not any(problem_of(kernel, s, host()) for s in found)
        assert found or name in ("attention", "joined"), "but where the order of additions leaves no choice"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_alternative_changes_a_bit(name):
    """Of each kind of change one; register tiles of other sizes have a test of their own, since their routines take long to compile."""
    graph, arrays, executable = case(name)
    for kernel in executable.kernels:
        usual = {how for how in executable.schedule(kernel).stages if isinstance(how, Product)}
        found = [s for s in alternatives(kernel, executable.schedule(kernel), host())
                 if {how for how in s.stages if isinstance(how, Product)} <= usual]
        for schedule in found[:3]:
            other = ng.compile(graph, schedules={name_of(kernel): schedule})
            assert other.source() != executable.source() or other.launches[0].function.emitted != executable.launches[0].function.emitted
            for x, y in zip(other(*arrays), executable(*arrays), strict=True):
                assert x.tobytes() == y.tobytes(), schedule


class Costs:
    """A bench without a machine: what a kernel takes follows from its schedule by `cost`, its bits by `bits`."""

    def __init__(self, names, cost, bits=lambda schedule: ""):
        self.kernels = {n: case(n)[2].kernels[0] for n in names}
        self.schedules = {n: case(n)[2].schedule(k) for n, k in self.kernels.items()}
        self.cost, self.bits, self.kept, self.runs = cost, bits, {}, 0

    def run(self, schedules):
        self.runs += 1
        used = {n: schedules.get(n, s) for n, s in self.schedules.items()}
        return Run({n: float(self.cost(s)) for n, s in used.items()}, "".join(self.bits(s) for s in used.values()))

    def keep(self, name, schedule):
        assert name not in self.kept
        self.kept[name] = schedule


def height(schedule):
    return getattr(schedule.units, "rows", 0)


def test_the_search_goes_on_from_what_was_better():
    """The best blocks of rows are two steps away; the map has nothing better and stays."""
    bench = Costs(["product", "map"], lambda s: 1000 - height(s) if height(s) else 500)
    told = []
    found = tune(bench, host(), lambda done, total, what: told.append((done, total)))
    product, other = sorted(found.kernels, key=lambda t: t.name != "product")
    assert height(product.after) == 288 and product.before_ns > product.after_ns and bench.kept == {"product": product.after}
    assert other.after == other.before and other.gain == 1 and product.tried >= other.tried > 0
    assert 1 < found.gain < product.gain and "product" in str(found) and product.share + other.share == 1
    assert told and all(done < total for done, total in told)


def test_what_changes_bits_is_never_kept():
    """The faster schedules of the product have other bits; those of the map, which are measured in the same runs, are kept all the same."""
    def bits(schedule):
        return "other" if height(schedule) > 192 else ""

    def cost(schedule):
        return 1000 - height(schedule) if height(schedule) else schedule.units.width if isinstance(schedule.units, Lanes) else 1000

    bench = Costs(["product", "map"], cost, bits)
    found = {t.name: t for t in tune(bench, host()).kernels}
    assert found["product"].wrong and all(height(s) > 192 for s in found["product"].wrong) and height(bench.kept["product"]) == 192
    assert bench.kept["map"].units.width < bench.schedules["map"].units.width and not found["map"].wrong


def test_cheap_kernels_are_left_alone(monkeypatch):
    bench = Costs(["product", "map"], lambda s: 1000 if height(s) else 1)
    assert [t.name for t in tune(bench, host()).kernels] == ["product"]
    monkeypatch.setattr(tuning, "MOST_KERNELS", 0)
    assert tune(bench, host()) == ((),) and tune(bench, host()).gain == 1


@pytest.mark.skipif(sanitizing.is_on(), reason="nothing is kept of what runs in guarded memory")
def test_a_bad_default_is_found_and_mended(folder, monkeypatch):
    """One lane in place of a vector: several times as slow, whatever else the machine does."""
    monkeypatch.setattr(strategy, "grid_lanes", lambda kernel, target: 1)
    strategy.choose.cache_clear()
    try:
        x = np.random.default_rng(0).normal(size=(3, 7001)).astype(np.float32)

        def fn(x):
            return np.tanh(x) * np.exp(x) + np.tanh(x * 2)

        jitted = ng.jit(fn)
        before = jitted(x)
        (bad,) = jitted.lower(x).executable.schedules.values()
        assert bad.units == Lanes(1)
        found = ng.tune(jitted, x)
        (kernel,) = found.kernels
        assert kernel.before == bad and kernel.gain > 2 and kernel.after.units.width > 1 and not kernel.wrong
        for later in (jitted, ng.jit(fn)):
            executable = later.lower(x).executable
            assert not executable.loaded or later is not jitted, "what was kept before does not count any more"
            assert executable.schedule(kernel.name) == kernel.after
            assert later(x).tobytes() == before.tobytes()
        winners.forget()  # as another process
        assert ng.jit(fn).lower(x).executable.loaded and ng.jit(fn).lower(x).executable.schedule(kernel.name) == kernel.after
        assert list(folder.glob("*.winner")) and cache.clear()
        winners.forget()
        assert ng.jit(fn).lower(x).executable.schedule(kernel.name) == bad
    finally:
        monkeypatch.undo()
        strategy.choose.cache_clear()


def test_kernels_whose_schedules_were_given_are_not_tuned(folder):
    graph, arrays, executable = case("map")
    given = ng.compile(graph, schedules=executable.schedules)
    assert given.tune(*arrays).kernels == () and not list(folder.glob("*.winner"))


def test_winners_that_are_not_legal_are_not_taken(folder):
    graph, _, executable = case("map")
    (kernel,) = executable.kernels
    for text in ("nonsense", str(executable.schedule(kernel)).replace("lanes", "lanes 7"), "schedule {\n units: points\n chunk: 1\n}"):
        winners.keep(winners.file_of(str(kernel)), text)
        assert ng.compile(graph).schedule(kernel) == executable.schedule(kernel)


def test_donated_arguments_stay_and_backends_without_schedules_refuse(folder):
    x = np.linspace(0, 1, 5000, dtype=np.float32)
    found = ng.tune(ng.jit(lambda x: x * 2 + 1, donate_argnames="x"), x)
    np.testing.assert_array_equal(x, np.linspace(0, 1, 5000, dtype=np.float32))
    assert found.kernels[0].share == 1
    with pytest.raises(SignatureError, match="its backend has no schedules"):
        ng.tune(ng.jit(lambda x: x + 1, backend="numpy"), x)
