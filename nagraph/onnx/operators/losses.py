"""Losses of class labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.nn import functional
from nagraph.onnx.registry import operator


@operator("NegativeLogLikelihoodLoss")
def negative_log_likelihood(log_p: Any, labels: Any, weight: Any = None, *, ignore_index: int | None = None,
                            reduction: str = "mean") -> Any:
    """-weight[label] log_p[label] over axis 1, of which the mean is weighted; labels that are ignored count nothing."""
    if len(log_p.shape) < 2 or tuple(labels.shape) != (log_p.shape[0], *log_p.shape[2:]):
        raise OnnxError(f"labels have shape {list(labels.shape)} for scores of shape {list(log_p.shape)}")
    if reduction not in ("none", "sum", "mean"):
        raise OnnxError(f"reduction is none, sum or mean, not {reduction!r}")
    kept = None if ignore_index is None else F.not_equal(labels, np.asarray(ignore_index, labels.dtype))
    classes = labels if kept is None else F.where(kept, labels, np.asarray(0, labels.dtype))
    chosen = F.squeeze(F.take_along_axis(log_p, F.expand_dims(classes, 1), 1), 1)
    factor = F.ones(labels.shape, log_p.dtype) if weight is None else F.take(weight, classes, 0)
    if kept is not None:
        factor = F.where(kept, factor, F.zeros_like(factor))
    loss = -chosen * factor
    if kept is not None:
        loss = F.where(kept, loss, F.zeros_like(loss))
    if reduction == "none":
        return loss
    return F.sum(loss) if reduction == "sum" else F.sum(loss) / F.sum(factor)


@operator("SoftmaxCrossEntropyLoss")
def softmax_cross_entropy(scores: Any, labels: Any, weight: Any = None, *, ignore_index: int | None = None, reduction: str = "mean",
                          call: Any) -> Any:
    log_p = functional.log_softmax(scores, axis=1)
    loss = negative_log_likelihood(log_p, labels, weight, ignore_index=ignore_index, reduction=reduction)
    return (loss, log_p)[:call.outputs]
