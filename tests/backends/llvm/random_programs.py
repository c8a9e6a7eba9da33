"""Random programs for the runtime, each in two forms: instructions, and functions of Python on lists of arrays."""

import numpy as np

from nagraph.backends.llvm.runtime.assembler import Assembler, Label
from tests.backends.llvm.runtime_kernels import launch

#: The pointers: four arrays that phases read and write, a part of one of them, an array for what is read there, a bool.
VIEW, SEEN, FLAG = 4, 5, 6
SIZE, VIEWED = 60, 16


def mixed(x, y, units):
    """What the kernel "mix" does."""
    i = np.arange(units)
    return y[:units] + 3 * x[(7 * i + 5) % units] + i + 1


class Model:
    """Writes a random program into an assembler, and itself as Python functions on a list of arrays."""

    def __init__(self, rng):
        self.rng, self.a = rng, Assembler()

    def block(self, depth):
        steps = [self._step(depth) for _ in range(self.rng.integers(1, 5))]
        return lambda t: [s(t) for s in steps]

    def _step(self, depth):
        kind = self.rng.choice(["phase", "phase", "swap", "view", "loop", "cond", "leave"][:7 if depth < 3 else 4])
        return getattr(self, kind)(depth)

    def _grain(self):
        return int(self.rng.choice([1, 2, 7, 16, SIZE]))

    def phase(self, depth):
        count = self.rng.integers(1, 3)
        pairs = self.rng.permutation(4)[:2 * count].reshape(count, 2).tolist()
        self.a.phase(*(launch("mix", SIZE, self._grain(), x, y, SIZE) for x, y in pairs))

        def step(t):
            for x, y in pairs:
                t[y][:] = mixed(t[x], t[y], SIZE)
        return step

    def swap(self, depth):
        i, j = self.rng.permutation(4)[:2].tolist()
        self.a.swap(i, j)

        def step(t):
            t[i], t[j] = t[j], t[i]
        return step

    def view(self, depth):
        """A phase in a loop on a part of an array that moves."""
        source, offset, turns = int(self.rng.integers(4)), int(self.rng.integers(9)), int(self.rng.integers(5))
        reverse, size = bool(self.rng.integers(2)), self._grain()
        with self.a.loop(turns) as c:
            self.a.set_pointer(VIEW, source, 8 * offset, 16, c, turns, reverse)
            self.a.phase(launch("mix", VIEWED, size, VIEW, SEEN, VIEWED))

        def step(t):
            for i in range(turns)[::-1 if reverse else 1]:
                t[SEEN][:] = mixed(t[source][offset + 2 * i:], t[SEEN], VIEWED)
        return step

    def loop(self, depth):
        turns = int(self.rng.integers(0, 4))
        with self.a.loop(turns):
            body = self.block(depth + 1)
        return lambda t: [body(t) for _ in range(turns)]

    def cond(self, depth):
        source, other, done = int(self.rng.integers(4)), Label(), Label()
        self.a.phase(launch("odd", 1, 1, source, FLAG))
        self.a.decide(FLAG, other)
        yes = self.block(depth + 1)
        self.a.jump(done)
        self.a.place(other)
        no = self.block(depth + 1)
        self.a.place(done)
        return lambda t: yes(t) if t[source][0] & 1 else no(t)

    def leave(self, depth):
        """Leave a counted loop at its first odd number."""
        source, turns, out = int(self.rng.integers(4)), int(self.rng.integers(1, 6)), Label()
        with self.a.loop(turns):
            self.a.phase(launch("odd", 1, 1, source, FLAG))
            self.a.decide(FLAG, out)
            body = self.block(depth + 2)
        self.a.place(out)

        def step(t):
            for _ in range(turns):
                if not t[source][0] & 1:
                    return
                body(t)
        return step


def arrays(seed):
    rng = np.random.default_rng(seed)
    made = [rng.integers(0, 2**60, SIZE) for _ in range(4)]
    return [*made, np.zeros(1, np.int64), np.zeros(VIEWED, np.int64), np.zeros(1, np.int64)]
