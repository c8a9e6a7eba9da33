"""What the house knows of the MPS backend."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nagraph.backends.interface import Agreement, Backend
from nagraph.backends.mps.arrays import FORK, FORKED, KIND, computes_on
from nagraph.errors import SignatureError
from nagraph.ir.graph import Graph
from nagraph.ir.types import DTYPES

if TYPE_CHECKING:
    from nagraph.backends.mps.executable import Executable


class MpsBackend(Backend):
    """The backend that computes on Apple's GPUs with MLX, op by op from the optimised graph; MLX fuses, and owns its memory."""

    name = "mps"
    pipeline = ("canonicalize,narrow,simplify,fold_constants,cse,dce,fold_control,prune_regions,"
                "expand{keep=('attention','layer_norm','rms_norm')},"
                "canonicalize,simplify,fold_constants,fold_control,licm,prune_regions,licm,cse,dce,prune_regions")
    dtypes = frozenset(DTYPES.values()) - {DTYPES["f64"]}
    agreement = Agreement(reference=False)
    array_kind = KIND

    def missing(self) -> str:
        if FORK.happened:
            return FORKED
        return "" if importlib.util.find_spec("mlx") else "it computes with MLX, which is not installed: pip install 'nagraph[mps]'"

    def about(self) -> dict[str, str]:
        from importlib.metadata import version  # which reads about all that is installed

        return {} if self.missing() else {"MLX": f"{version('mlx')}, on {computes_on()}"}

    def with_tf32(self) -> Backend:
        raise SignatureError("backend 'mps' multiplies float32 as MLX does in the whole process: MLX_ENABLE_TF32=1 in the environment "
                             "allows it fewer digits")

    def compile(self, graph: Graph, donations: Mapping[int, int], threads: int | None = None) -> Executable:
        from nagraph.backends.mps.executable import Executable  # what translates loads when something is compiled

        return Executable(graph, donations)


BACKEND = MpsBackend()
