"""The loops around the micro-kernels: chains of k, blocks of rows, strips of columns, and what is packed for them."""

from __future__ import annotations

from contextlib import ExitStack

from nagraph.backends.llvm.gemm.microkernel import take
from nagraph.backends.llvm.gemm.tile import Tile
from nagraph.backends.llvm.text.builder import FunctionBuilder, Module, Reg, i64
from nagraph.backends.llvm.text.vectors import ceil_div, minimum
from nagraph.kernel.contraction import CHAIN

#: a, a_row, a_col, b, b_row, b_col, c, c_row, m, n, k, batches, taps, depth, a_offsets, b_offsets, accumulate, scratch, prefetch_table
ARGUMENTS = ("ptr noalias", "i64", "i64", "ptr noalias", "i64", "i64", "ptr noalias", "i64", "i64", "i64", "i64", "i64",
             "i64", "i64", "ptr noalias", "ptr noalias", "i64", "ptr noalias", "ptr")
#: Rows of C from which packing such a B pays, columns of C from which packing such an A does, and an A with unit rows.
PACK_B_ROWS = 96
PACK_A_COLUMNS = 256
PACK_TRANSPOSED_A_COLUMNS = 128


def kernel_name(rows: int, width: int) -> str:
    return f"kernel_{rows}x{width}"


def kernel_table(module: Module, tile: Tile) -> None:
    """@kernels: for each of tile.heights and of tile.slots the micro-kernel that takes so many rows and columns."""
    entries = []
    for rows in tile.heights:
        for slot in tile.slots:
            name = next((f"@{kernel_name(rows, w)}" for w in tile.widths(rows) if w >= slot), "null")
            entries.append(f"ptr {name}")
    module.declarations["kernels"] = f"@kernels = internal constant [{len(entries)} x ptr] [{', '.join(entries)}]"


def scratch_layout(tile: Tile) -> dict[str, int]:
    """Where the parts of scratch begin, in bytes: two tables of offsets, a block of A and a strip of B; and where it ends."""
    pad = 2 * tile.lanes
    a_block = max(tile.block_rows * (CHAIN + pad), CHAIN * (tile.block_rows + pad))
    b_strip = (CHAIN + tile.lanes) * 4 * tile.lanes
    sizes = {"a_table": 8 * CHAIN, "b_table": 8 * CHAIN, "a_block": a_block * tile.size, "b_strip": b_strip * tile.size}
    starts, end = {}, 0
    for name, nbytes in sizes.items():
        starts[name] = end
        end += -(-nbytes // 64) * 64
    return {**starts, "end": end}


def blocked(module: Module, tile: Tile, name: str) -> None:
    """C (+)= Σₜ AₜBₜ for m, n, k, batches > 0: the function `name` with ARGUMENTS."""
    code = module.function(name, "void", ARGUMENTS, linkage="internal")
    _LoopNest(code, tile).emit()
    code.ret()


class _LoopNest:
    """The loop nest, from the outside in: chains, blocks of rows, strips of columns. Values made on the way are kept as fields."""

    def __init__(self, code: FunctionBuilder, tile: Tile):
        self.code, self.tile = code, tile
        (self.a, self.a_row, self.a_col, self.b, self.b_row, self.b_col, self.c, self.c_row, self.m, self.n, self.k, self.batches,
         taps, depth, self.a_offsets, self.b_offsets, self.accumulate, scratch, prefetch_table) = code.arguments
        self.chain = taps, depth
        layout = scratch_layout(tile)
        self.a_table, self.b_table, self.a_block, self.b_strip = (
            code.offset(scratch, "i8", i64(layout[part])) for part in ("a_table", "b_table", "a_block", "b_strip"))
        self.zero = code.reserve("i64", 1)
        code.store(i64(0), self.zero, 8)
        self.prefetch_table = code.select(code.compare("icmp eq", prefetch_table, Reg("ptr", "null")), self.empty_table(), prefetch_table)

    def at(self, pointer: Reg, *steps: tuple[Reg, Reg]) -> Reg:
        """The address of an element, `count` strides further for each (count, stride)."""
        for count, stride in steps:
            pointer = self.code.offset(pointer, self.tile.element, self.code.mul(count, stride))
        return pointer

    def emit(self) -> None:
        code, tile = self.code, self.tile
        self.choose_packing()
        # Strips are as wide as the micro-kernels for so many rows, or half as wide for one row if they are packed.
        few, alone = code.compare("icmp slt", self.m, i64(4)), code.compare("icmp eq", self.m, i64(1))
        alone = code.binary("and", alone, code.binary("xor", self.pack_b, Reg("i1", "true")))
        self.width = code.select(alone, i64(8 * tile.lanes), code.select(few, i64(4 * tile.lanes), i64(tile.strip)))
        taps, depth = self.chain  # several batches in a chain where k is short, several chains in a batch where it is long
        # Measured: an A with unit rows, whose columns are copied, likes smaller blocks.
        transposed = code.binary("and", self.pack_a, code.binary("xor", self.straight, Reg("i1", "true")))
        blocks = ceil_div(code, self.m, code.select(transposed, i64(tile.block_rows // 2), i64(tile.block_rows)))
        rows = code.mul(ceil_div(code, ceil_div(code, self.m, blocks), i64(tile.rows)), i64(tile.rows))
        with ExitStack() as loops:
            t, p = (loops.enter_context(code.loop(i64(0), stop, step, known=True)).index
                    for stop, step in ((self.batches, taps), (self.k, depth)))
            self.t, self.p = t, p
            self.taps = minimum(code, taps, code.sub(self.batches, t))
            self.depth = minimum(code, depth, code.sub(self.k, p))
            first = code.compare("icmp eq", code.binary("or", t, p), i64(0))
            self.add = code.compare("icmp ne", code.select(first, self.accumulate, i64(1)), i64(0))
            self.fill_tables()
            i = loops.enter_context(code.loop(i64(0), self.m, rows, known=True)).index
            self.rows = minimum(code, rows, code.sub(self.m, i))
            a = self.at(self.a, (i, self.a_row))
            with code.when(self.pack_a):
                self.pack_rows(a)
            a = code.select(self.pack_a, self.a_block, a)
            j = loops.enter_context(code.loop(i64(0), self.n, self.width, known=True)).index
            self.columns = minimum(code, self.width, code.sub(self.n, j))
            self.last = code.compare("icmp sle", code.sub(self.n, j), self.width)
            b = self.at(self.b, (j, self.b_col))
            self.ahead = self.at(b, (self.p, self.b_row), (self.width, i64(1)))
            c = self.at(self.c, (i, self.c_row), (j, i64(1)))
            with code.when(self.pack_b):
                self.pack_strip(b)
            part = self.part()
            b = code.select(self.pack_b, self.b_strip, b)
            x = loops.enter_context(code.loop(i64(0), self.columns, part, known=True)).index
            columns = minimum(code, part, code.sub(self.columns, x))
            self.tiles(a, self.at(b, (x, i64(1))), self.at(c, (x, i64(1))), columns)

    def part(self) -> Reg:
        """Columns of the strip that are computed at a time: all, but for those that take less time apart.

        With masks, a vector and up to half of one; without them, less than a vector, which powers of two make up.
        """
        code, lanes = self.code, self.tile.lanes
        if self.tile.masks:
            both = code.compare("icmp sle", self.columns, i64(3 * lanes // 2))
            apart = code.binary("and", both, code.compare("icmp sgt", self.columns, i64(lanes)))
            return code.select(apart, i64(lanes), self.columns)
        power = code.binary("lshr", i64(-1 << 63), code.call("llvm.ctlz.i64", "i64", self.columns, Reg("i1", "false")))
        return code.select(code.compare("icmp slt", self.columns, i64(lanes)), power, self.columns)

    def empty_table(self) -> Reg:
        """A prefetch table without entries."""
        code = self.code
        table = code.reserve("i64", 4)
        for n, word in enumerate((i64(0), i64(0), code.convert("ptrtoint", table, "i64"), i64(0))):
            code.store(word, code.offset(table, "i64", i64(n)), 8)
        return table

    # -- packing ------------------------------------------------------------------------------------------

    def choose_packing(self) -> None:
        """B without unit columns is packed; if the schedule packs, so are A and B whose rows conflict, and A with unit rows, if C is large
        enough.
        """
        code, tile = self.code, self.tile
        self.strided = code.compare("icmp ne", self.b_col, i64(1))
        tall = code.compare("icmp sge", self.m, i64(PACK_B_ROWS))
        conflicts = code.binary("and", tall, self.conflicts(self.b_row)) if tile.product.packs else Reg("i1", "false")
        self.pack_b = code.binary("or", self.strided, conflicts)
        self.b_step = code.select(self.strided, i64(0), self.b_row)
        self.straight = code.compare("icmp eq", self.a_col, i64(1))
        columns = code.select(self.straight, i64(PACK_A_COLUMNS), i64(PACK_TRANSPOSED_A_COLUMNS))
        wide = code.binary("and", code.compare("icmp sge", self.n, columns), code.compare("icmp sge", self.m, i64(tile.rows)))
        worth = code.select(self.straight, self.conflicts(self.a_row), code.compare("icmp eq", self.a_row, i64(1)))
        self.pack_a = code.binary("and", wide, worth) if tile.product.packs else Reg("i1", "false")
        # Where A is packed, the axis with unit steps keeps them; along the other one the block has these.
        self.packed_step = code.select(self.straight, i64(CHAIN + 2 * tile.lanes), i64(tile.block_rows + 2 * tile.lanes))
        a_row, a_col = (code.select(self.straight, x, y) for x, y in ((self.packed_step, i64(1)), (i64(1), self.packed_step)))
        self.kernel_a_row = code.select(self.pack_a, a_row, self.a_row)
        self.kernel_a_col = code.select(self.pack_a, a_col, self.a_col)

    def conflicts(self, step: Reg) -> Reg:
        """Whether rows this far apart fall into few sets of the first cache."""
        code = self.code
        return code.compare("icmp eq", code.binary("and", step, i64(self.tile.target.way_nbytes // self.tile.size - 1)), i64(0))

    def source(self, offsets: Reg, tap: Reg, step: Reg) -> Reg:
        """Where the chain begins in the tap's matrix: p steps behind its offset, which is zero without a table."""
        code = self.code
        none = code.compare("icmp eq", offsets, Reg("ptr", "null"))
        table, place = code.select(none, self.zero, offsets), code.select(none, i64(0), code.add(self.t, tap))
        return code.add(code.load("i64", code.offset(table, "i64", place), 8), code.mul(self.p, step))

    def fill_tables(self) -> None:
        """Where the micro-kernels find each tap of the chain; packed taps lie one behind another."""
        code = self.code
        self.kernel_b_row = code.select(self.pack_b, self.width, self.b_row)
        with code.loop(i64(0), self.taps, known=True) as tap:
            packed = code.mul(tap.index, self.depth)
            for table, offsets, step, is_packed, kernel_step in (
                    (self.a_table, self.a_offsets, self.a_col, self.pack_a, self.kernel_a_col),
                    (self.b_table, self.b_offsets, self.b_row, self.pack_b, self.kernel_b_row)):
                place = code.select(is_packed, code.mul(packed, kernel_step), self.source(offsets, tap.index, step))
                code.store(place, code.offset(table, "i64", tap.index), 8)

    def pack_rows(self, a: Reg) -> None:
        """The block of A, its rows or its columns copied side by side."""
        code = self.code
        rows, columns, step = (code.select(self.straight, x, y) for x, y in (
            (self.rows, self.depth), (self.depth, self.rows), (self.a_row, self.a_col)))
        with code.loop(i64(0), self.taps, known=True) as tap:
            to = self.at(self.a_block, (code.mul(tap.index, self.depth), self.kernel_a_col))
            source = self.at(a, (self.source(self.a_offsets, tap.index, self.a_col), i64(1)))
            code.call("copy", "void", to, self.packed_step, source, step, i64(1), rows, columns)

    def pack_strip(self, b: Reg) -> None:
        """The strip of B, with unit columns."""
        code = self.code
        transposed = code.compare("icmp eq", self.b_row, i64(1))
        how = code.select(self.strided, code.select(transposed, Reg("ptr", "@transpose"), Reg("ptr", "@gather")), Reg("ptr", "@copy"))
        with code.loop(i64(0), self.taps, known=True) as tap:
            to = self.at(self.b_strip, (code.mul(tap.index, self.depth), self.width))
            source = self.at(b, (self.source(self.b_offsets, tap.index, self.b_row), i64(1)))
            arguments = to, self.width, source, self.b_row, self.b_col, self.depth, self.columns
            code.do(f"call void {how.text}({', '.join(map(str, arguments))})")

    # -- micro-kernels --------------------------------------------------------------------------------------

    def tiles(self, a: Reg, b: Reg, c: Reg, columns: Reg) -> None:
        """All rows of the block: tiles of the largest height, one or two of eight rows, tiles of four, and one of the remaining rows."""
        code, tile = self.code, self.tile
        halves = ceil_div(code, columns, i64(tile.slots[0]))
        slot = code.sub(i64(64), code.call("llvm.ctlz.i64", "i64", code.sub(halves, i64(1)), Reg("i1", "false")))
        whole = code.binary("udiv", self.rows, i64(tile.rows))
        left = code.sub(self.rows, code.mul(whole, i64(tile.rows)))
        if tile.split:
            four = code.compare("icmp eq", code.binary("lshr", left, i64(2)), i64(1))
            fewer = code.convert("zext", code.binary("and", four, code.compare("icmp ne", whole, i64(0))), "i64")
            whole, left = code.sub(whole, fewer), code.add(left, code.mul(fewer, i64(tile.rows)))
        parts = [(whole, i64(0), i64(tile.rows))]
        for place, height in enumerate(tile.heights[1:-3], 1):
            count = code.binary("udiv", left, i64(height))
            left = code.sub(left, code.mul(count, i64(height)))
            parts.append((count, i64(place), i64(height)))
        parts.append((minimum(code, left, i64(1)), code.sub(i64(len(tile.heights)), left), left))
        for part, (count, place, rows) in enumerate(parts):
            with code.when(code.compare("icmp ne", count, i64(0))):
                place = code.add(code.mul(place, i64(len(tile.slots))), slot)
                kernel = code.load("ptr", code.offset(Reg("ptr", "@kernels"), "ptr", place), 8)
                # Behind the last strip is nothing of B to ask for: its first tiles take pieces as the others do.
                more = self.last if part < len(parts) - 1 else Reg("i1", "false")
                piece = take(code, self.prefetch_table, code.convert("zext", more, "i64"))
                ahead, step = (code.select(self.last, x, y) for x, y in zip(piece, (self.ahead, self.b_step)))
                arguments = (a, self.kernel_a_row, self.kernel_a_col, self.a_table, b, self.kernel_b_row, self.b_table,
                             c, self.c_row, count, columns, self.depth, self.taps, self.add, ahead, step, self.prefetch_table)
                code.do(f"call void {kernel.text}({', '.join(map(str, arguments))})")
            done = code.mul(count, rows)
            a, c = self.at(a, (done, self.kernel_a_row)), self.at(c, (done, self.c_row))
