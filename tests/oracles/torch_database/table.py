"""Every entry of PyTorch's operator database that has a counterpart here, and that."""

from __future__ import annotations

from tests.oracles.torch_database import arrays, elementwise, networks

COUNTERPARTS = {**elementwise.COUNTERPARTS, **arrays.COUNTERPARTS, **networks.COUNTERPARTS}
