"""Calls of a program on a device: addresses of arrays go into its table, its launches are queued, its results are arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nagraph.backends.cuda.arrays import meeting
from nagraph.backends.cuda.driver import Array, Device, Driver
from nagraph.backends.cuda.image import Image
from nagraph.backends.cuda.resident import Marks, Resident
from nagraph.errors import DeviceError
from nagraph.forks import Lock
from nagraph.ir.graph import Graph
from nagraph.ops.labels import failure


class Calls:
    """The calls of an image: arrays in, arrays out, on the device where the arrays are.

    signature: a graph that computes what the program does, of which errors tell the lines. donations: output number -> number of the
    input whose array it may take.
    """

    def __init__(self, signature: Graph, image: Image, donations: Mapping[int, int], driver: Driver):
        self.signature, self.image, self.donations, self.driver = signature, image, dict(donations), driver
        self._results = [(v.shape, v.dtype) for v in signature.outputs]
        self._late = frozenset(e.number for e in image.table if e.kind == "donated")
        self._residents: dict[int, _OnDevice] = {}
        self._lock = Lock()

    def resident(self, device: Device) -> _OnDevice:
        """The program on a device, where it is put at the first call. DeviceError if it was compiled for another kind of device."""
        with self._lock:
            found = self._residents.get(device.number)
            if found is None:
                if not runs_on(self.image.architecture, device.architecture):
                    raise DeviceError(f"{self.signature.name} was compiled for {self.image.architecture}, and {device.label} is "
                                      f"{device.architecture}: compile it for that, ng.compile(graph, target={device.architecture!r})")
                found = self._residents[device.number] = _OnDevice(self, Resident(self.image, device))
            return found

    def run(self, arrays: Sequence[Array], donated: Mapping[int, Array], marks: Marks | None = None) -> tuple[Array, ...]:
        """The outputs for row-major arrays of the inputs' types; output j goes into the array donated[j] if there is one.

        marks: is to get each launch's number, and marks before and behind it; then no graph is used.
        """
        device: Device | None = None
        try:
            device = self.driver.device(self.driver.number(arrays[0]) if arrays else None)
            with device.active():
                resident = self.resident(device).resident
                outputs = [donated[j] if j in donated and j not in self._late else device.empty(*result)
                           for j, result in enumerate(self._results)]
                late = [donated.get(j, outputs[j]) for _, j in resident.late]
                given, made = device.pointers(arrays), device.pointers(outputs)
                taken = {j: i for j, i in self.donations.items() if made[j] == given[i]}
                fine = resident.run(resident.variant(taken), [*given, *made, *device.pointers(late)], marks)
        except Exception as error:
            raise self._told(error, device) from None
        if not fine:
            raise self._refused(arrays)
        return tuple(donated.get(j, a) for j, a in enumerate(outputs))

    def plain(self, arrays: list[Any]) -> list[Array] | None:
        """The fast path: the outputs, if these arrays of the current device are just as the inputs want them; else None, with nothing done.

        Just so: of the very dtypes and shapes, row-major, aligned; those that are donated with memory of their own, of which no other
        array shows a part.
        """
        there = self._residents.get(self.driver.current()) if self._residents else None
        if there is None:
            return None
        try:
            results, fine = there.plain(arrays)
        except Exception as error:
            raise self._told(error, there.device) from None
        if not fine:
            raise self._refused(arrays)
        return results

    def _told(self, error: Exception, device: Device | None) -> Exception:
        """What is raised in place of an error of the device or its library."""
        return self.driver.explained(error, self.signature.name, device) or error

    def _refused(self, arrays: Sequence[Array]) -> Exception:
        """The error of a call with a label that is no class."""
        return failure(self.signature, [self.driver.kind.to_numpy(a) for a in arrays])


class _OnDevice:
    """The fast path of calls on one device: those that donate all that they may, and always bring the same types."""

    def __init__(self, calls: Calls, resident: Resident):
        self.resident, self.device = resident, resident.device
        inputs, donations, late = calls.signature.inputs, calls.donations, calls._late
        self._wanted = [self.device.wanted(v.type) for v in inputs]
        self._nbytes = [v.type.nbytes for v in inputs]
        fresh = [j for j in range(len(calls._results)) if j not in donations or j in late]
        self._fresh = [calls._results[j] for j in fresh]
        place = {j: len(inputs) + n for n, j in enumerate(fresh)}  # in the list of the arguments and what is fresh
        count = len(calls._results)
        self._order = [*range(len(inputs)), *(place.get(j, donations.get(j, -1)) for j in range(count)),
                       *(donations[j] for _, j in resident.late)]
        self._results = [donations.get(j, place.get(j, -1)) for j in range(count)]
        self._donated = sorted(set(donations.values()))
        self._variant = resident.variant({j: i for j, i in donations.items() if j not in late})
        #: Addresses of arguments of which those that are donated are known to meet no others.
        self._apart: list[int] | None = None

    def plain(self, arrays: list[Any]) -> tuple[list[Array] | None, bool]:
        """The results, or None, and whether no label was refused."""
        device = self.device
        found = device.addresses(arrays, self._wanted)
        if found is None or (self._donated and found != self._apart and not self._are_apart(found)):
            return None, True
        if self._donated and not device.owns([arrays[i] for i in self._donated]):
            return None, True
        fresh = [device.empty(shape, dtype) for shape, dtype in self._fresh]
        both = found + device.pointers(fresh)
        if not self.resident.run(self._variant, [both[n] for n in self._order]):
            return None, False
        held = arrays + fresh
        return [held[n] for n in self._results], True

    def _are_apart(self, addresses: list[int]) -> bool:
        """Whether the arguments that are donated meet no other argument."""
        met = meeting([(begin, begin + nbytes) for begin, nbytes in zip(addresses, self._nbytes, strict=True)])
        if met.isdisjoint(self._donated):
            self._apart = addresses
            return True
        return False


def runs_on(compiled: str, there: str) -> bool:
    """Whether code for one architecture runs on another: on later ones of the same generation; with a letter, on its own alone."""
    if compiled == there:
        return True
    a, b = compiled.removeprefix("sm_"), there.removeprefix("sm_")
    return a.isdigit() and b.isdigit() and int(a) // 10 == int(b) // 10 and int(a) <= int(b)
