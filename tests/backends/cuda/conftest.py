"""The CUDA backend over a device that is none."""

import pytest

from nagraph import arrays, backends
from tests.backends.cuda.lazy_device import LazyBackend, LazyDriver


def usable_as(monkeypatch, made):
    """Let a backend be found by its name."""
    find, names = backends.find, backends.names
    monkeypatch.setattr(backends, "find", lambda name=None: made if name == made.name else find(name))
    monkeypatch.setattr(backends, "names", lambda: (*names(), made.name))
    arrays.register(made.array_kind)
    return made


@pytest.fixture
def backend(monkeypatch):
    return usable_as(monkeypatch, LazyBackend(LazyDriver()))


@pytest.fixture
def device(backend):
    return backend.driver.device(0)
