"""Every error that nagraph raises on purpose, each a subclass of the built-in that people would catch."""

from __future__ import annotations


class NagraphError(Exception):
    """Base of all errors raised on purpose."""


class TypeRuleError(NagraphError, TypeError, ValueError):
    """Operands do not satisfy an op's type rule (shape or dtype)."""


class SizeError(TypeRuleError):
    """A size that is known later was asked for what only a known one tells, or sizes do not fit what was declared of them."""


class TracerError(NagraphError, TypeError):
    """A traced value was used where only a concrete array has an answer."""


class LeakedTracerError(TracerError):
    """A traced value was used after, or outside, the trace that made it."""


class MissingRuleError(NagraphError, NotImplementedError):
    """An op has no rule of the kind asked for (derivative, batching, reference, lowering)."""


class ParseError(NagraphError, ValueError):
    """Text is not a graph: says line, column, and shows a caret."""


class VerifyError(NagraphError, ValueError):
    """A graph or plan breaks one of its invariants."""


class PassError(NagraphError, RuntimeError):
    """A pass failed or produced a wrong graph: names the pass and the neighbourhood of the node."""


class InternalError(NagraphError, RuntimeError):
    """The compiler itself failed on a graph, in every way that it tried: a fault of nagraph. Names a file to report it with."""


class RetreatWarning(UserWarning):
    """The compiler itself failed on a graph, and compiled it in a plainer way: a fault of nagraph. Names a file to report it with."""


class SignatureError(NagraphError, TypeError):
    """Arguments do not fit a compiled function."""


class ScheduleError(SignatureError):
    """A schedule is not legal for its kernel: names the kernel, the rule that is broken, and how."""


class DeviceError(SignatureError):
    """An array is on a device where what was asked for does not run, or can't get to the one that it is wanted on."""


class DeviceMemoryError(DeviceError, MemoryError):
    """A device has no memory left for what was asked for: says how much it has."""


class LabelError(NagraphError, IndexError, ValueError):
    """A class label is none of the classes: names the label, its position and the number of classes."""


class TreeError(NagraphError, TypeError, ValueError):
    """Two pytrees differ in structure, or a leaf is of a kind that cannot be one."""


class DataError(NagraphError, ValueError):
    """Input data is missing, empty, too short or not of the expected kind."""


class CheckpointError(NagraphError, ValueError):
    """A checkpoint is missing, damaged, or belongs to something else."""


class OnnxError(NagraphError, ValueError):
    """An ONNX model is damaged, or holds what a graph can't: names the file, the node, and what would be needed."""


class ExportError(NagraphError, ValueError):
    """A graph can't be written in a form, or what was written is not what was meant: names every op that has no translation, with lines."""


class ProgramError(NagraphError, ValueError):
    """A program file is missing, damaged, or newer than what reads it: names the file, and what is wrong with it."""


class SanitizerError(NagraphError, RuntimeError):
    """A kernel wrote where it must not, or read what nobody wrote: names the buffer, and the kernels that write it."""


class NotFiniteError(NagraphError, ArithmeticError):
    """A computation gave values that are not finite: names the op where the first of them came from."""
