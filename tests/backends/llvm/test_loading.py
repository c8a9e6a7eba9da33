"""Machine code in memory: loaded together, and given back with the last program that calls it."""

import ctypes
import dis
import gc
import sys
import threading

import numpy as np
import pytest

import nagraph as ng
from nagraph import forks
from nagraph.backends.llvm.native import machine_code
from nagraph.backends.llvm.program import functions, loading
from tests.support import forget_kernels


@pytest.fixture
def libraries(monkeypatch):
    """Those that are loaded now, counted where they come and go; only the functions asked for last stay without a program."""
    alive = set()

    class Counted(machine_code.Library):
        def __init__(self, codes):
            super().__init__(codes)
            alive.add(id(self))

        def __del__(self):
            alive.discard(id(self))

    forget_kernels(monkeypatch)
    monkeypatch.setenv("NAGRAPH_CACHE", "off")
    monkeypatch.setattr(functions, "MOST", 2)
    monkeypatch.setattr(loading, "Library", Counted)
    return alive


def made(k: int):
    """An executable whose kernels no other has, and what it should give for ones."""
    return ng.compile(ng.trace(lambda x: np.cumsum(np.exp(x) * k, 0) @ x.T, ng.spec((k, 3), "f8"))), k * np.e * 3 * np.arange(1, k + 1)


def test_code_goes_with_its_program(libraries):
    for k in range(1, 13):
        exe, expected = made(k)
        np.testing.assert_allclose(exe(np.ones((k, 3)))[0][:, 0], expected)
    gc.collect()
    assert len(libraries) <= 3


def test_code_stays_while_a_program_calls_it(libraries):
    kept = [made(k) for k in range(1, 7)]
    gc.collect()
    assert len(libraries) >= 6
    for k, (exe, expected) in enumerate(kept, 1):
        np.testing.assert_allclose(exe(np.ones((k, 3)))[0][:, 0], expected)


def test_kernels_of_one_program_are_loaded_together(libraries):
    functions_before = len(functions._KNOWN)
    exe, _ = made(4)
    assert len(exe.program.functions) > 1 and len(libraries) == 1 and functions_before == 0


def test_programs_come_and_go_in_threads(libraries):
    """Each thread lets go of its last program while the others run theirs."""
    wrong = []

    def work(first):
        for k in range(first, 40, 4):
            exe, expected = made(k)
            for _ in range(3):
                if not np.allclose(exe(np.ones((k, 3)))[0][:, 0], expected):
                    wrong.append(k)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


CODE = """
define i64 @answer() {
  ret i64 42
}
"""


def interrupted(step: int, call):
    """The call, ended by Ctrl-C at that step of Python's within loading.py or its lock. Gives whether it had that many.

    Python looks for signals, and lets other threads run, where a function begins, behind a call, and where a loop goes back.
    """
    left, behind_call = step, {}

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename not in (loading.__file__, forks.__file__):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if behind_call.get(frame) or name in ("RESUME", "JUMP_BACKWARD"):
                left -= 1
                if left == 0:
                    raise KeyboardInterrupt
            behind_call[frame] = name.startswith("CALL")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def is_free(lock) -> bool:
    """Whether another thread gets the lock."""
    found = []

    def ask():
        found.append(lock.acquire(blocking=False))
        if found[0]:
            lock.release()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return found[0]


def test_loading_ends_at_any_step():
    """By Ctrl-C, or for a forked child since another thread was loading: what is asked for afterwards is there."""
    content, step = machine_code.object_code(CODE), 0
    answered = 0
    while step == answered:
        step += 1
        codes = [loading.MachineCode("answer", CODE, content) for _ in range(2)]
        answered += interrupted(step, lambda codes=codes: codes[0].address)
        assert is_free(loading._LOCK)
        assert [ctypes.CFUNCTYPE(ctypes.c_int64)(code.address)() for code in reversed(codes)] == [42, 42]
    assert step > 10
