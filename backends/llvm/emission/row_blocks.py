"""Row blocks: kernels that go through the rows of each grid point block by block; and triangles, of which only a part is computed."""

from __future__ import annotations

from nagraph.backends.llvm.emission.context import EmissionContext, Range
from nagraph.backends.llvm.emission.contraction import column_count, emit_product, row_count, scratch
from nagraph.backends.llvm.emission.stage import StageLoops
from nagraph.backends.llvm.text.builder import Reg, i64
from nagraph.backends.llvm.text.lanes import memory_type
from nagraph.kernel.contraction import Contraction, stage_of, tiles_in_memory
from nagraph.kernel.row_blocks import RowBlocks
from nagraph.schedule.realise import parts_of


class RowBlockEmission:
    """The stages of a kernel at one point of its grid. `nbytes`: the scratch that its tiles take."""

    def __init__(self, context: EmissionContext, blocks: RowBlocks, size: int):
        self.context, self.blocks, self.size = context, blocks, size
        stages, (parts, self.outputs) = blocks.kernel.stages, parts_of(blocks.kernel, context.schedule)
        number = {id(s): n for n, s in enumerate(stages)}
        self.parts = [(p, number[id(stage_of(p))]) for p in parts]
        memory, tiles = sorted(tiles_in_memory(blocks.kernel, parts) - self.outputs.keys()), blocks.kernel.tiles
        context.spilled = {i for i in memory if tiles[i].size == 1}
        self.nbytes = context.tile_memory({i: blocks.row_tiles[i] * self.size if i in blocks.row_tiles else tiles[i].size for i in memory})
        context.block_tiles = context.tiles

    @property
    def scratch(self) -> int:
        """The bytes of scratch that a thread needs: the tiles, and behind them the routine's."""
        return self.nbytes + max((scratch(self.context, p) for p, _ in self.parts if isinstance(p, Contraction)), default=0)

    def emit(self) -> None:
        """The parts before the blocks, then the blocks from the last to the first, then the parts after them."""
        context, code, blocks = self.context, self.context.code, self.blocks
        whole = context.tiles
        self._emit("before", i64(0))
        count = -(-blocks.extent // self.size)
        with code.loop(i64(0), i64(count)) as loop:
            start = code.mul(code.sub(i64(count - 1), loop.index), i64(self.size))
            stop = code.add(start, i64(self.size))
            if blocks.extent % self.size:
                stop = code.emit("i64", f"call i64 @llvm.smin.i64({stop}, i64 {blocks.extent})")
            context.tiles = context.block_tiles = dict(whole)
            for tile in blocks.row_tiles.keys() & whole.keys():  # so that a row's number is its place
                back = code.mul(code.sub(i64(0), start), i64(blocks.row_tiles[tile]))
                context.tiles[tile] = code.offset(whole[tile], memory_type(blocks.kernel.tiles[tile].dtype), back)
            self._emit("block", code.convert("zext", code.compare("icmp ne", loop.index, i64(0)), "i64"), start, stop)
        context.tiles = context.block_tiles = whole
        context.registers.clear()
        context.ranges, context.conditions = {}, frozenset()
        self._emit("after", i64(0))

    def _emit(self, when: str, again: Reg, start: Reg | None = None, stop: Reg | None = None) -> None:
        """The parts of one kind; again: 0 in the first block, which begins the sums, else 1."""
        context, blocks = self.context, self.blocks
        for part, n in self.parts:
            if blocks.when[n] != when:
                continue
            if start is not None and stop is not None:
                context.ranges, context.conditions = ranges(blocks.rows[n], blocks.columns[n], start, stop, self.size), blocks.conditions[n]
            if isinstance(part, Contraction):
                accumulate = again if part.tile in blocks.sums else i64(0)
                tile, target = context.block_tiles.get(part.tile), self.outputs.get(part.tile)
                emit_product(context, part, tile, target, row_count(context, part), i64(0), column_count(context, part), self.nbytes,
                             accumulate=accumulate)
            else:
                StageLoops(context, part).emit()


def ranges(rows: int | None, columns: int | None, start: Reg, stop: Reg, size: int) -> dict[int, Range]:
    """The ranges of a block's axes: its rows from start to stop; of a triangle the columns that one of them sees."""
    found = {} if rows is None else {rows: Range(start, stop, size)}
    return found if columns is None else found | {columns: Range(i64(0), stop, size, edge=start)}
