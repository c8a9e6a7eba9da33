"""The opaque backend, installed from outside of the tree: whatever reads one of its arrays but by asking is an error."""

import importlib
import pathlib

import pytest

from nagraph import backends
from tests.backends.crossings import Crossings
from tests.backends.installing import install

SOURCE = pathlib.Path(__file__).with_name("opaque_backend.py")


@pytest.fixture(scope="module")
def opaque_module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    install(folder, "opaque", "opaque_arrays", SOURCE.read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.invalidate_caches()
        backends._found.cache_clear()
        backends.find("opaque")
        yield importlib.import_module("opaque_arrays")
    backends._found.cache_clear()


@pytest.fixture
def opaque(opaque_module):
    return opaque_module.Opaque


@pytest.fixture
def crossed(opaque):
    return Crossings(opaque.crossed)
