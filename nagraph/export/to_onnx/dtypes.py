"""In which dtypes operators of ONNX are computed: where implementations lack a dtype, a wider one is written, with casts around it.

ONNX allows more dtypes than implementations have. What is here is what ONNX Runtime computes on a CPU. Sums and products of integers wrap
around: computed in a wider integer and cut off they have the same bits. 16-bit floats are computed in float32 and rounded once, as in
nagraph: float16 by the implementation itself, bfloat16 by casts in the model.
"""

from __future__ import annotations

from nagraph.ir.types import DTYPES, DType

BOOL, I8, I16, I32, I64 = (DTYPES[n] for n in ("bool", "i8", "i16", "i32", "i64"))
U8, U16, U32, U64 = (DTYPES[n] for n in ("u8", "u16", "u32", "u64"))
F16, BF16, F32, F64 = (DTYPES[n] for n in ("f16", "bf16", "f32", "f64"))

_FLOATS = frozenset((F16, F32, F64))
_INTEGERS = frozenset((I8, I16, I32, I64, U8, U16, U32, U64))
_WIDE = _FLOATS | {I32, I64}

#: The dtypes in which an operator is computed; others have `_USUAL`.
_COMPUTED: dict[str, frozenset[DType]] = {
    "Neg": _FLOATS | {I8, I16, I32, I64},
    "Max": _WIDE | {I8, U8, U32, U64},
    "Min": _WIDE | {I8, U8, U32, U64},
    "Clip": _WIDE | {I8, U8, U32, U64},
    "Where": _WIDE | {U8, I8, U32},
    "Equal": _FLOATS | _INTEGERS | {BOOL},
    "ReduceSum": _WIDE,
    "ReduceProd": _WIDE,
    "ReduceMean": _FLOATS,
    "ReduceMax": _WIDE | {BOOL, I8, U8},
    "ReduceMin": _WIDE | {BOOL, I8, U8},
    "MatMul": _WIDE | {U32, U64},
    "Pow": _FLOATS,
    "Mod": _FLOATS | _INTEGERS,
    "ArgMax": _WIDE | {I8, U8},
    "ArgMin": _WIDE | {I8, U8},
    "CumSum": _FLOATS | {I32, I64},
    "TopK": _WIDE | {I8, I16, U8},
    "MaxPool": _FLOATS | {I8, U8},
    "Pad": _WIDE | {BOOL, I8, U8, U32, U64},
    "Sign": _INTEGERS | {F32, F64},
    "ScatterElements": _INTEGERS | {F32, F64},
    "Expand": _FLOATS | _INTEGERS | {BOOL},
    "Range": frozenset((F32, F64, I16, I32, I64)),
    **dict.fromkeys(("Floor", "Ceil", "Round", "Sqrt", "Exp", "Log", "Sin", "Cos", "Tanh", "Sigmoid", "Reciprocal", "Softmax",
                     "LogSoftmax", "LayerNormalization", "RMSNormalization", "BatchNormalization"), _FLOATS),
    **dict.fromkeys(("Erf", "Softplus", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Gelu",
                     "Conv", "ConvTranspose", "AveragePool"), frozenset((F16, F32))),
}
#: What moves elements, whatever they are.
_ANY = frozenset(DTYPES.values())
_MOVING = frozenset(("Transpose", "Reshape", "Slice", "Concat", "Gather", "GatherND", "GatherElements", "ScatterND",
                     "Cast", "Squeeze", "Unsqueeze", "Identity", "IsNaN", "IsInf", "Shape"))
_USUAL = _FLOATS | _INTEGERS
#: The wider dtypes, the next one first; 64-bit integers of the other sign hold the same bits.
_WIDER: dict[DType, tuple[DType, ...]] = {
    BOOL: (U8, I8, I32, I64), I8: (I16, I32, I64), U8: (I16, I32, I64), I16: (I32, I64), U16: (I32, I64), I32: (I64,), U32: (I64,),
    F16: (F32, F64), BF16: (F32, F64), F32: (F64,),
}


def computed_in(operator: str, dtype: DType) -> DType | None:
    """The dtype in which an operator computes values of a dtype: itself, or a wider one that holds all of them. None if there is none."""
    have = _ANY if operator in _MOVING else _COMPUTED.get(operator, _USUAL)
    return next((d for d in (dtype, *_WIDER.get(dtype, ())) if d in have), None)


def wrapped_in(operator: str, dtype: DType) -> DType | None:
    """The same for sums, products and bits of integers, of which the lowest bits count: unsigned 64-bit integers as signed ones."""
    return computed_in(operator, dtype) or (computed_in(operator, I64) if dtype == U64 else None)
