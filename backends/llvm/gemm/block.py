"""The loops around the micro-kernels: chains of k, blocks of columns and rows, strips, and what is packed for them."""

from __future__ import annotations

from nagraph.backends.llvm.code import Code, Module, Reg, i64
from nagraph.backends.llvm.gemm.tile import CHAIN, Tile
from nagraph.backends.llvm.gemm.vectors import ceil_div, minimum

#: a, a_row, a_col, b, b_row, b_col, c, c_row, m, n, k, batches, a_offsets, b_offsets, accumulate, scratch
ARGUMENTS = ("ptr noalias", "i64", "i64", "ptr noalias", "i64", "i64", "ptr noalias", "i64", "i64", "i64", "i64", "i64",
             "ptr noalias", "ptr noalias", "i64", "ptr noalias")
#: Widths of micro-kernels are powers of two, up to this one.
WIDTHS = (1, 2, 4, 8)
#: Rows of C from which packing B pays where B is not packed by necessity.
PACK_B_ROWS = 96
A_MOD=2048
B_MOD=2048
A_TN=True
#: Columns of C from which packing A pays.
PACK_A_COLUMNS = 128


def kernel_table(module: Module, tile: Tile) -> list[tuple[int, int, str]]:
    """Declare the table @kernels of micro-kernels, by rows and width; returned are those in it: (rows, vectors, name)."""
    found = [(rows, vectors, f"kernel_{rows}x{vectors}") for rows in range(1, tile.rows + 1)
             for vectors in WIDTHS if vectors <= tile.widest(rows)]
    names = {(rows, vectors): name for rows, vectors, name in found}
    entries = [names.get((rows, vectors)) for rows in range(tile.rows + 1) for vectors in WIDTHS]
    listed = ", ".join(f"ptr @{name}" if name else "ptr null" for name in entries)
    module.declarations["kernels"] = f"@kernels = internal constant [{len(entries)} x ptr] [{listed}]"
    return found


def scratch_layout(tile: Tile) -> dict[str, int]:
    """Where the parts of scratch begin, in bytes: two tables of offsets, blocks of A and B; and where it ends."""
    a_block = max(tile.block_rows * (CHAIN + 2 * tile.lanes), CHAIN * (tile.block_rows + 2 * tile.lanes))
    b_block = (CHAIN + tile.lanes) * 8 * tile.lanes
    sizes = {"a_table": 8 * CHAIN, "b_table": 8 * CHAIN, "a_block": a_block * tile.size, "b_block": b_block * tile.size}
    starts, end = {}, 0
    for name, nbytes in sizes.items():
        starts[name] = end
        end += -(-nbytes // 64) * 64
    return {**starts, "end": end}


def blocked(module: Module, tile: Tile, name: str) -> None:
    """C (+)= Σₜ AₜBₜ for m, n, k, batches > 0: the function `name` with ARGUMENTS."""
    code = module.function(name, "void", ARGUMENTS, linkage="internal")
    _Nest(code, tile).emit()
    code.ret()


class _Nest:
    """The loops, from the outside in. Sizes are balanced: the parts of an extent differ little."""

    def __init__(self, code: Code, tile: Tile):
        self.code, self.tile = code, tile
        (self.a, self.a_row, self.a_col, self.b, self.b_row, self.b_col, self.c, self.c_row, self.m, self.n, self.k, self.batches,
         self.a_offsets, self.b_offsets, self.accumulate, scratch) = code.arguments
        self.zero = code.reserve("i64", 1)
        code.store(i64(0), self.zero, 8)
        layout = scratch_layout(tile)
        self.a_table, self.b_table, self.a_block, self.b_block = (
            code.offset(scratch, "i8", i64(layout[part])) for part in ("a_table", "b_table", "a_block", "b_block"))

    def at(self, pointer: Reg, *steps: tuple[Reg, Reg]) -> Reg:
        """The element so many steps further, each (count, stride)."""
        for count, stride in steps:
            pointer = self.code.offset(pointer, self.tile.element, self.code.mul(count, stride))
        return pointer

    def emit(self) -> None:
        code, tile = self.code, self.tile
        # Chains: several batches in one where k is short, several in a batch where it is long. They depend on k and batches alone.
        groups = ceil_div(code, self.batches, code.call("llvm.smax.i64", "i64", code.binary("udiv", i64(CHAIN), self.k), i64(1)))
        taps = ceil_div(code, self.batches, groups)
        chains = ceil_div(code, self.k, i64(CHAIN))
        chain = code.binary("and", code.add(ceil_div(code, self.k, chains), i64(15)), i64(-16))
        # Strips of columns, as wide as the micro-kernels are for so many rows.
        few = [code.compare("icmp slt", self.m, i64(rows)) for rows in (2, 4)]
        self.width = code.select(few[0], i64(8 * tile.lanes), code.select(few[1], i64(4 * tile.lanes), i64(2 * tile.lanes)))
        m_blocks = ceil_div(code, self.m, i64(tile.block_rows))
        self.m_step = ceil_div(code, self.m, m_blocks)
        self.strided = code.compare("icmp ne", self.b_col, i64(1))
        thrash = self.conflict(self.b_row, B_MOD)
        self.pack_b = code.binary("or", self.strided, code.binary("and", thrash, code.compare("icmp sge", self.m, i64(PACK_B_ROWS))))
        wide = code.compare("icmp sge", self.n, i64(PACK_A_COLUMNS))
        self.a_straight = code.compare("icmp eq", self.a_col, i64(1))
        unit = code.binary("and", self.a_straight, self.conflict(self.a_row, A_MOD))
        if A_TN: unit = code.binary("or", unit, code.compare("icmp eq", self.a_row, i64(1)))
        self.pack_a = code.binary("and", wide, unit)
        with code.loop(i64(0), self.batches, taps, known=True) as t_loop, code.loop(i64(0), self.k, chain, known=True) as k_loop:
            first = code.compare("icmp eq", code.binary("or", t_loop.index, k_loop.index), i64(0))
            self.add = code.compare("icmp ne", code.select(first, self.accumulate, i64(1)), i64(0))
            self.taps = minimum(code, taps, code.sub(self.batches, t_loop.index))
            self.depth = minimum(code, chain, code.sub(self.k, k_loop.index))
            self.one_chain(t_loop.index, k_loop.index)

    def conflict(self, stride, mod):
        code = self.code
        return code.compare("icmp eq", code.binary("and", stride, i64(mod // self.tile.size - 1)), i64(0))

    def one_chain(self, t0: Reg, p0: Reg) -> None:
        """Add the products of one chain to n columns of C."""
        code = self.code
        self.p0, self.t0 = p0, t0
        a_packed_row = code.select(self.a_straight, i64(CHAIN + 2 * self.tile.lanes), i64(1))
        a_packed_col = code.select(self.a_straight, i64(1), i64(self.tile.block_rows + 2 * self.tile.lanes))
        with code.loop(i64(0), self.taps, known=True) as tap:
            packed = code.mul(code.mul(tap.index, self.depth), i64(1))
            direct = self.source(self.a_offsets, tap.index, self.a_col)
            x = code.select(self.pack_a, code.mul(packed, a_packed_col), direct)
            code.store(x, code.offset(self.a_table, "i64", tap.index), 8)
            direct = self.source(self.b_offsets, tap.index, self.b_row)
            x = code.select(self.pack_b, code.mul(packed, self.width), direct)
            code.store(x, code.offset(self.b_table, "i64", tap.index), 8)
        a_row = code.select(self.pack_a, a_packed_row, self.a_row)
        a_col = code.select(self.pack_a, a_packed_col, self.a_col)
        b_row = code.select(self.pack_b, self.width, self.b_row)
        with code.loop(i64(0), self.m, self.m_step, known=True) as m_loop:
            m = minimum(code, self.m_step, code.sub(self.m, m_loop.index))
            a = self.at(self.a, (m_loop.index, self.a_row))
            with code.when(self.pack_a):
                self.pack_rows(a, m, a_packed_col)
            a = code.select(self.pack_a, self.a_block, a)
            blocks = ceil_div(code, m, i64(self.tile.rows))
            rows = code.binary("udiv", m, blocks)
            taller = code.sub(m, code.mul(rows, blocks))
            with code.loop(i64(0), self.n, self.width, known=True) as strip:
                columns = minimum(code, self.width, code.sub(self.n, strip.index))
                b = self.at(self.b, (strip.index, self.b_col))
                ahead = self.at(b, (self.p0, self.b_row), (self.width, i64(1)))
                ahead_row = code.select(self.strided, i64(0), self.b_row)
                with code.when(self.pack_b):
                    self.pack_strip(b, self.b_block, columns)
                b = code.select(self.pack_b, self.b_block, b)
                c = self.at(self.c, (m_loop.index, self.c_row), (strip.index, i64(1)))
                vectors = ceil_div(code, columns, i64(self.tile.lanes))
                zeros = code.call("llvm.ctlz.i64", "i64", code.sub(vectors, i64(1)), Reg("i1", "false"))
                width = code.sub(i64(64), zeros)
                self.call(code.add(rows, i64(1)), width, taller, columns, a, a_row, a_col, b, b_row, c, ahead, ahead_row)
                done = code.mul(taller, code.add(rows, i64(1)))
                a_next, c_next = self.at(a, (done, a_row)), self.at(c, (done, self.c_row))
                self.call(rows, width, code.sub(blocks, taller), columns, a_next, a_row, a_col, b, b_row, c_next, ahead, code.select(code.compare('icmp sgt', taller, i64(0)), i64(0), ahead_row))

    def source(self, offsets: Reg, tap: Reg, step: Reg) -> Reg:
        """Where the chain begins in the tap's matrix: its offset and p0 steps along k. No table of offsets is zero."""
        code = self.code
        start = code.mul(self.p0, step)
        none = code.compare("icmp eq", offsets, Reg("ptr", "null"))
        table = code.select(none, self.zero, offsets)
        place = code.select(none, i64(0), code.add(self.t0, tap))
        return code.add(start, code.load("i64", code.offset(table, "i64", place), 8))

    def pack_rows(self, a: Reg, m: Reg, packed_col: Reg) -> None:
        """m rows of A as a block: rows of the chain, or where A has unit rows its columns, side by side."""
        code = self.code
        rows, columns = (code.select(self.a_straight, x, y) for x, y in ((m, self.depth), (self.depth, m)))
        to_row, from_row = (code.select(self.a_straight, x, y) for x, y in
                            ((i64(CHAIN + 2 * self.tile.lanes), i64(self.tile.block_rows + 2 * self.tile.lanes)), (self.a_row, self.a_col)))
        with code.loop(i64(0), self.taps, known=True) as tap:
            to = self.at(self.a_block, (code.mul(tap.index, self.depth), packed_col))
            source = self.at(a, (self.source(self.a_offsets, tap.index, self.a_col), i64(1)))
            code.call("copy", "void", to, to_row, source, from_row, i64(1), rows, columns)

    def pack_strip(self, b: Reg, to: Reg, columns: Reg) -> None:
        """A strip of B with unit columns."""
        code = self.code
        with code.loop(i64(0), self.taps, known=True) as tap:
            there = self.at(to, (code.mul(tap.index, self.depth), self.width))
            source = self.at(b, (self.source(self.b_offsets, tap.index, self.b_row), i64(1)))
            arguments = there, self.width, source, self.b_row, self.b_col, self.depth, columns
            turned = code.compare("icmp eq", self.b_row, i64(1))
            how = code.select(self.strided, code.select(turned, Reg("ptr", "@transpose"), Reg("ptr", "@gather")), Reg("ptr", "@copy"))
            code.do(f"call void {how.text}({', '.join(map(str, arguments))})")

    def call(self, rows: Reg, width: Reg, blocks: Reg, columns: Reg, a: Reg, a_row: Reg, a_col: Reg, b: Reg, b_row: Reg, c: Reg, ahead: Reg, ahead_row: Reg) -> None:
        """Run the micro-kernel of so many rows and the width on `blocks` tiles of C."""
        code = self.code
        with code.when(code.compare("icmp sgt", blocks, i64(0))):
            place = code.add(code.mul(rows, i64(len(WIDTHS))), width)
            kernel = code.load("ptr", code.offset(Reg("ptr", "@kernels"), "ptr", place), 8)
            arguments = (a, a_row, a_col, self.a_table, b, b_row, self.b_table, c, self.c_row, blocks, columns, self.depth,
                         self.taps, self.add, ahead, ahead_row)
            code.do(f"call void {kernel.text}({', '.join(map(str, arguments))})")
