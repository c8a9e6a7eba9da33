"""The context of exported text: names, the functions that kernels call, and memory for tiles, which all kernels of a file share."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nagraph.c_text.functions import Functions
from nagraph.c_text.places import INT, index_text
from nagraph.c_text.scalars import CScalars
from nagraph.c_text.text import Text
from nagraph.export.to_c.words import C99
from nagraph.ir.scalar import Scalar
from nagraph.ir.types import DType
from nagraph.kernel.affine import Affine
from nagraph.kernel.form import Fold, Kernel

#: What axes are called, the outermost first.
AXES = "ijkmnpqrstuvw"
#: What the results of folds are called, and tiles of them.
FOLDS = {"dot": ("sum", "products"), "sum": ("sum", "sums"), "max": ("largest", "maxima"), "min": ("smallest", "minima"),
         "prod": ("product", "products"), "all": ("all", "alls"), "any": ("any", "anys")}
#: Names that a file may not give: C's own, those of its headers, and those that its text has already.
RESERVED = frozenset("""
    auto break case char const continue default do double else enum extern float for goto if inline int long register restrict return
    short signed sizeof static struct switch typedef union unsigned void volatile while bool true false main arena tiles wide asm
    int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t verdict errno NAN INFINITY EOF NULL
    class new delete template typename this private public protected namespace operator catch throw try using virtual friend
    acos asin atan ceil cos cosh exp fabs floor fmod frexp ldexp log modf pow sin sinh sqrt tan tanh acosh asinh atanh cbrt copysign erf
    erfc exp2 expm1 fdim fma fmax fmin hypot ilogb lgamma llrint log10 log1p log2 logb lrint lround nan nearbyint nextafter remainder
    abort abs atexit atof atoi atol atoll bsearch calloc div exit free getenv labs ldiv llabs lldiv malloc mblen qsort rand realloc srand
    strtod strtof strtol strtold strtoll strtoul strtoull system memchr memcmp memcpy memmove memset strcat strchr strcmp strcoll strcpy
    strcspn strerror strlen strncat strncmp strncpy strpbrk strrchr strspn strstr strtok strxfrm isalnum isalpha isblank iscntrl isdigit
    isgraph islower isprint ispunct isspace isupper isxdigit tolower toupper clearerr fclose feof ferror fflush fgetc fgets fopen fprintf
    fputc fputs fread fscanf fseek ftell fwrite getc getchar gets printf putc putchar puts remove rename rewind scanf setbuf sprintf
    snprintf sscanf tmpfile ungetc vprintf clock time signal raise read write open close index rindex select pipe link send recv
    remquo rint round scalbln scalbn tgamma trunc j0 j1 jn y0 y1 yn gamma signgam signbit isnan isinf isfinite
    """.split())

#: The names of values in kernels.
_VALUE = re.compile(r"[sv]\d+")


class Names:
    """Names that are taken, and new ones like those that people gave."""

    def __init__(self, taken: Iterable[str] = ()):
        self.taken = set(taken)

    def new(self, wish: str) -> str:
        """An identifier as like the wish as may be."""
        plain = re.sub(r"\W+", "_", wish, flags=re.ASCII).strip("_") or "x"
        plain = f"x{plain}" if plain[0].isdigit() else plain
        root, found, n = plain if plain[-1].isalpha() else f"{plain}_", plain, 1
        while found in self.taken or found in RESERVED or found.removesuffix("f") in RESERVED or _VALUE.fullmatch(found):
            n += 1
            found = f"{root}{n}"
        self.taken.add(found)
        return found


class FileContext:
    """What the kernels of one file share. tiles_nbytes: the bytes that the kernel with the largest tiles wants."""

    def __init__(self) -> None:
        self.names, self.functions, self.tiles_nbytes = Names(), Functions(C99), 0


class KernelContext:
    """What the stages of one kernel share."""

    def __init__(self, file: FileContext, kernel: Kernel, operands: list[str]):
        """operands: their names."""
        self.file, self.kernel, self.operands = file, kernel, operands
        self.text = Text(indent=1, letter="s")
        self.scalars = CScalars(self.text, C99)
        self.functions = file.functions
        self._values = 0
        self.names = Names(operands)
        self.axes = [self.names.new(AXES[a] if a < len(AXES) else f"a{a}") for a in range(len(kernel.axes))]
        self.tiles = [self.names.new(self._tile_name(t)) for t in range(len(kernel.tiles))]

    def fresh(self) -> str:
        """A name for a value."""
        self._values += 1
        return f"v{self._values}"

    def _tile_name(self, tile: int) -> str:
        """What a tile is called: for what a stage leaves in it."""
        single = self.kernel.tiles[tile].size == 1
        for stage in self.kernel.stages:
            for f in stage.folds:
                if f.tile == tile:
                    one, many = FOLDS.get(fold_name(f), (fold_name(f), fold_name(f)))
                    return f"the_{one}" if single else many
            for w in stage.writes:
                if w.tile == tile:
                    op = getattr(stage.body[w.value], "op", None)
                    return f"the_{op.name}" if op is not None and single else f"{op.name}s" if op is not None else "values"
        return "tile"

    def is_variable(self, tile: int) -> bool:
        """Whether a tile is a variable of the function."""
        return self.kernel.tiles[tile].size == 1

    def kind(self, axis: int) -> str:
        """The type of a place along an axis."""
        return "int" if self.kernel.axes[axis] < INT else "int64_t"

    def index(self, index: Affine, values: dict[int, Scalar]) -> str:
        """An affine expression in C. values: those of instructions that are atoms of it."""
        terms = tuple((a, c) for a, c in index.terms if a < 0 or self.kernel.axes[a] > 1)  # an axis of one place is at 0
        return index_text(Affine(index.offset, terms), self.kernel.axes, lambda a: self.axes[a] if a >= 0 else str(values[-1 - a].raw),
                          "(int64_t)")


def fold_name(fold: Fold) -> str:
    """What a fold does, in a word."""
    return "dot" if fold.op is None else fold.op.name


def memory_name(dtype: DType) -> str:
    """The member of the arena, and of the memory for tiles, that has elements of a dtype."""
    return C99.memory_type(dtype).removesuffix("_t") + "s"
