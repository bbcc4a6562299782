"""What a CPU really executes: vectors of float32, and tiles of them that stay in the registers.

A core does not add numbers, it adds vectors: one instruction works on 4, 8 or 16 float32 at once, its *lanes*. A good
compiler finds such vectors in plain loops by itself, and the elementwise kernels leave that to it. A convolution needs
more: its sums must also stay in registers while thousands of products are added to them, and that the compiler does not
find (2 to 2.5 times slower, measured). So here both are said outright: a new number type for Numba,

    Vector      LANES float32 in one register
    Tile        rows x columns Vectors, small enough to live in the 16 or 32 registers of a core

made of LLVM's own vector type through `numba.extending`. Each function below says which machine instruction it becomes;
`kernel.inspect_asm()` shows them.

The tile of a matrix product, here 4 rows x 2 columns of registers; one step takes 2 loads, 4 broadcasts, 8 FMAs:

                     x: 2 vectors, 16 images
                     [ ....  ] [ ....  ]
      weights  w0    [ tile  ] [ tile  ]    tile[r][v] += w[r] * x[v]
               w1    [ tile  ] [ tile  ]
               w2    [ tile  ] [ tile  ]
               w3    [ tile  ] [ tile  ]

A core starts two FMAs per cycle and each takes four cycles, so at least 8 must be under way that do not wait for each
other. Two columns of 8 lanes are also one whole cache line. That is where a tile's size comes from.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.core.registry import cpu_target
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable


def processor() -> tuple[int, int]:
    """(lanes, registers) of the CPU that Numba compiles for; NUMBA_CPU_NAME and NUMBA_CPU_FEATURES are honoured."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    features = features.split(",")
    if "+avx512f" in features:
        return 16, 32
    if "+avx" in features:
        return 8, 16
    return 4, 16 if triple.startswith(("x86_64", "i686")) else 32


LANES, REGISTERS = processor()
ROWS, COLUMNS = (4, 4) if REGISTERS == 32 else (4, 2)     # the tile of a matrix product: see the drawing above

FLOAT = ir.FloatType()
INDEX = ir.IntType(32)
BYTES = ir.IntType(8).as_pointer()
VECTOR = ir.VectorType(FLOAT, LANES)
FLAGS = ("contract", "nsz")     # a * b + c may become one FMA


# The two types --------------------------------------------------------------------------------------------------------


class VectorType(types.Type):
    def __init__(self):
        super().__init__(name=f"Vector[{LANES}]")


class TileType(types.Type):
    def __init__(self, rows, columns):
        self.rows, self.columns = rows, columns
        super().__init__(name=f"Tile[{rows}x{columns}x{LANES}]")


vector = VectorType()


@register_model(VectorType)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, VECTOR)


@register_model(TileType)
class TileModel(models.PrimitiveModel):
    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, ir.ArrayType(VECTOR, numba_type.rows * numba_type.columns))


# LLVM building blocks -------------------------------------------------------------------------------------------------


def address(context, builder, array_type, array, index_type, index):
    """The address of an array's entry, counted through its memory whatever its shape."""
    if array_type.layout != "C":
        raise TypingError("vectors are loaded from C-ordered arrays only")
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [context.cast(builder, index, index_type, types.intp)])


def load_at(builder, pointer):
    result = builder.load(builder.bitcast(pointer, VECTOR.as_pointer()))
    result.align = 4                                                             # anywhere, not only at 32 bytes
    return result


def store_at(builder, pointer, value):
    builder.store(value, builder.bitcast(pointer, VECTOR.as_pointer())).align = 4


def broadcast(builder, number):
    """The same number in every lane."""
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, INDEX(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(INDEX, LANES), [0] * LANES))


def multiply_add(builder, a, b, c):
    return builder.fadd(builder.fmul(a, b, flags=FLAGS), c, flags=FLAGS)


def choose_lanes(builder, a, b, lanes):
    """A vector of these lanes of a (0 to LANES - 1) and b (from LANES on)."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INDEX, LANES), lanes))


def lane_sums(builder, vectors):
    """One vector that holds the sums of the lanes of each of LANES vectors.

    Two vectors are folded into one, whose first half of lanes belongs to the one and the second to the other; then two
    of those; log2(LANES) times. Each fold takes two shuffles and an addition, and stays within 128 bits where it can.
    """
    owners = [[index] for index in range(LANES)]          # whose sums a vector holds, segment by segment
    width = LANES
    while len(vectors) > 1:
        width //= 2
        left = [start + side * LANES + lane
                for start in range(0, LANES, 2 * width) for side in (0, 1) for lane in range(width)]
        right = [lane + width for lane in left]
        vectors = [builder.fadd(choose_lanes(builder, a, b, left), choose_lanes(builder, a, b, right), flags=FLAGS)
                   for a, b in zip(vectors[::2], vectors[1::2])]
        owners = [[owner for pair in zip(a, b) for owner in pair] for a, b in zip(owners[::2], owners[1::2])]
    order = [owners[0].index(index) for index in range(LANES)]
    return choose_lanes(builder, vectors[0], vectors[0], order)


# Vectors --------------------------------------------------------------------------------------------------------------


@intrinsic
def load(typing, array, index):
    """LANES neighbours in memory, from the entry `index` on.    (vmovups)"""

    def build(context, builder, signature, arguments):
        array_type, index_type = signature.args
        return load_at(builder, address(context, builder, array_type, arguments[0], index_type, arguments[1]))

    return vector(array, index), build


@intrinsic
def store(typing, array, index, value):
    """The lanes of `value` into memory, from the entry `index` on.    (vmovups)"""

    def build(context, builder, signature, arguments):
        array_type, index_type, _ = signature.args
        place = address(context, builder, array_type, arguments[0], index_type, arguments[1])
        store_at(builder, place, arguments[2])
        return context.get_dummy_value()

    return types.void(array, index, value), build


@intrinsic
def prefetch(typing, array, index):
    """Ask for the cache line that holds the entry `index`, and go on without waiting for it.    (prefetcht0)"""

    def build(context, builder, signature, arguments):
        array_type, index_type = signature.args
        place = address(context, builder, array_type, arguments[0], index_type, arguments[1])
        place = builder.bitcast(place, BYTES)
        hint = builder.module.declare_intrinsic("llvm.prefetch", [BYTES],
                                                ir.FunctionType(ir.VoidType(), [BYTES, INDEX, INDEX, INDEX]))
        builder.call(hint, [place, INDEX(0), INDEX(3), INDEX(1)])        # to read; keep it close; it is data
        return context.get_dummy_value()

    return types.void(array, index), build


@intrinsic
def splat(typing, number):
    """The same number in every lane.    (vbroadcastss)"""

    def build(context, builder, signature, arguments):
        return broadcast(builder, context.cast(builder, arguments[0], signature.args[0], types.float32))

    return vector(number), build


@intrinsic
def lane_sum(typing, value):
    """The sum of the lanes of one vector."""

    def build(context, builder, signature, arguments):
        value, width = arguments[0], LANES
        while width > 1:                                                  # fold it in half until one lane is left
            width //= 2
            upper = [min(lane + width, LANES - 1) for lane in range(LANES)]
            value = builder.fadd(value, choose_lanes(builder, value, value, upper), flags=FLAGS)
        return builder.extract_element(value, INDEX(0))

    return types.float32(value), build


def define_operator(symbol, instruction):
    """Let `symbol` join two vectors, or a vector and a number.    (vaddps, vsubps, vmulps; + after * is vfmadd)"""

    @type_callable(symbol)
    def result_type(context):
        def typer(a, b):
            if vector in (a, b) and all(kind == vector or isinstance(kind, types.Number) for kind in (a, b)):
                return vector
        return typer

    def build(context, builder, signature, arguments):
        a, b = (value if kind == vector else broadcast(builder, context.cast(builder, value, kind, types.float32))
                for kind, value in zip(signature.args, arguments))
        return getattr(builder, instruction)(a, b, flags=FLAGS)

    for kinds in ((vector, vector), (types.Number, vector), (vector, types.Number)):
        lower_builtin(symbol, *kinds)(build)


define_operator(operator.add, "fadd")
define_operator(operator.sub, "fsub")
define_operator(operator.mul, "fmul")


# Tiles ----------------------------------------------------------------------------------------------------------------


def places(tile_type):
    """(position in the tile, row, column) of each of its registers."""
    return [(r * tile_type.columns + c, r, c) for r in range(tile_type.rows) for c in range(tile_type.columns)]


@intrinsic(prefer_literal=True)
def zeros(typing, rows, columns):
    """A tile of rows x columns vectors, all zero.    (vxorps)"""

    def build(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(signature.return_type), None)

    return TileType(rows.literal_value, columns.literal_value)(rows, columns), build


@intrinsic(prefer_literal=True)
def constant_rows(typing, rows, columns, array, index):
    """A tile whose row r holds the number array[index + r] in every lane.    (vbroadcastss)"""

    def build(context, builder, signature, arguments):
        tile_type = signature.return_type
        start = address(context, builder, signature.args[2], arguments[2], signature.args[3], arguments[3])
        rows = [broadcast(builder, builder.load(builder.gep(start, [INDEX(r)]))) for r in range(tile_type.rows)]
        tile = ir.Constant(context.get_value_type(tile_type), ir.Undefined)
        for place, r, _ in places(tile_type):
            tile = builder.insert_value(tile, rows[r], place)
        return tile

    return TileType(rows.literal_value, columns.literal_value)(rows, columns, array, index), build


@intrinsic(prefer_literal=True)
def load_tile(typing, rows, columns, array, index):
    """A tile of rows * columns vectors that lie one after the other in memory.    (vmovups)"""

    def build(context, builder, signature, arguments):
        tile_type = signature.return_type
        start = address(context, builder, signature.args[2], arguments[2], signature.args[3], arguments[3])
        tile = ir.Constant(context.get_value_type(tile_type), ir.Undefined)
        for place, _, _ in places(tile_type):
            tile = builder.insert_value(tile, load_at(builder, builder.gep(start, [INDEX(place * LANES)])), place)
        return tile

    return TileType(rows.literal_value, columns.literal_value)(rows, columns, array, index), build


@intrinsic
def dot(typing, tile, x, index, total):
    """total + the tile times as many vectors of x from `index` on, lane by lane.    (vfmadd231ps)"""

    def build(context, builder, signature, arguments):
        tile_type, x_type, index_type, _ = signature.args
        start = address(context, builder, x_type, arguments[1], index_type, arguments[2])
        total = arguments[3]
        for place, _, _ in places(tile_type):
            value = load_at(builder, builder.gep(start, [INDEX(place * LANES)]))
            total = multiply_add(builder, builder.extract_value(arguments[0], place), value, total)
        return total

    return vector(tile, x, index, total), build


@intrinsic
def outer_product(typing, tile, numbers, i, x, j):
    """tile[r][v] += numbers[i + r] * (the vector v of x from j on).    (vbroadcastss, vfmadd231ps)"""

    def build(context, builder, signature, arguments):
        tile_type, numbers_type, i_type, x_type, j_type = signature.args
        tile = arguments[0]
        w = address(context, builder, numbers_type, arguments[1], i_type, arguments[2])
        start = address(context, builder, x_type, arguments[3], j_type, arguments[4])
        columns = [load_at(builder, builder.gep(start, [INDEX(v * LANES)])) for v in range(tile_type.columns)]
        rows = [broadcast(builder, builder.load(builder.gep(w, [INDEX(r)]))) for r in range(tile_type.rows)]
        for place, r, v in places(tile_type):
            total = multiply_add(builder, rows[r], columns[v], builder.extract_value(tile, place))
            tile = builder.insert_value(tile, total, place)
        return tile

    return tile(tile, numbers, i, x, j), build


@intrinsic
def inner_products(typing, tile, a, i, a_stride, a_count, b, j, b_stride, b_count):
    """tile[r][c] += (the vector of a at i + r * a_stride) * (that of b at j + c * b_stride), lane by lane.

    Only `a_count` rows and `b_count` columns exist; in place of the others the last one is taken again.
    """

    def build(context, builder, signature, arguments):
        tile_type = signature.args[0]

        def vectors(array, number):
            first, stride, count = (context.cast(builder, arguments[k], signature.args[k], types.intp)
                                    for k in range(array + 1, array + 4))
            for n in map(first.type, range(number)):
                n = builder.select(builder.icmp_signed("<", n, count), n, builder.sub(count, n.type(1)))
                index = builder.add(first, builder.mul(stride, n))
                place = address(context, builder, signature.args[array], arguments[array], types.intp, index)
                yield load_at(builder, place)

        rows, columns = list(vectors(1, tile_type.rows)), list(vectors(5, tile_type.columns))
        tile = arguments[0]
        for place, r, c in places(tile_type):
            total = multiply_add(builder, rows[r], columns[c], builder.extract_value(tile, place))
            tile = builder.insert_value(tile, total, place)
        return tile

    return tile(tile, a, i, a_stride, a_count, b, j, b_stride, b_count), build


@intrinsic
def add_row(typing, tile, array, index):
    """tile[0][v] += the vector v of the array from `index` on.    (vaddps)"""

    def build(context, builder, signature, arguments):
        tile_type, array_type, index_type = signature.args
        start = address(context, builder, array_type, arguments[1], index_type, arguments[2])
        tile = arguments[0]
        for place, _, v in places(tile_type):
            value = load_at(builder, builder.gep(start, [INDEX(v * LANES)]))
            tile = builder.insert_value(tile, builder.fadd(builder.extract_value(tile, place), value), place)
        return tile

    return tile(tile, array, index), build


@intrinsic
def positive_rows(typing, tile):
    """The positive part of every number of the tile; a NaN stays.    (vmaxps)"""

    def build(context, builder, signature, arguments):
        tile, zero = arguments[0], ir.Constant(VECTOR, [0.0] * LANES)
        for place, _, _ in places(signature.args[0]):
            value = builder.extract_value(tile, place)
            value = builder.select(builder.fcmp_ordered("<", value, zero), zero, value)
            tile = builder.insert_value(tile, value, place)
        return tile

    return tile(tile), build


@intrinsic
def store_rows(typing, array, index, stride, tile, count):
    """The first `count` rows of the tile into memory, row r from the entry index + r * stride on."""

    def build(context, builder, signature, arguments):
        tile_type = signature.args[3]
        stride, count = (context.cast(builder, arguments[k], signature.args[k], types.intp) for k in (2, 4))
        row = address(context, builder, signature.args[0], arguments[0], signature.args[1], arguments[1])
        for r in range(tile_type.rows):
            with builder.if_then(builder.icmp_signed("<", count.type(r), count), likely=True):
                for c in range(tile_type.columns):
                    value = builder.extract_value(arguments[3], r * tile_type.columns + c)
                    store_at(builder, builder.gep(row, [INDEX(c * LANES)]), value)
            row = builder.gep(row, [stride])
        return context.get_dummy_value()

    return types.void(array, index, stride, tile, count), build


@intrinsic
def add_sums(typing, array, index, tile):
    """array[index + place] += the sum of the lanes of each of the tile's vectors, row by row."""

    def build(context, builder, signature, arguments):
        tile_type = signature.args[2]
        start = address(context, builder, signature.args[0], arguments[0], signature.args[1], arguments[1])
        vectors = [builder.extract_value(arguments[2], place) for place, _, _ in places(tile_type)]
        for group in range(0, len(vectors), LANES):
            place = builder.gep(start, [INDEX(group)])
            sums = lane_sums(builder, vectors[group : group + LANES])
            store_at(builder, place, builder.fadd(load_at(builder, place), sums, flags=FLAGS))
        return context.get_dummy_value()

    if (tile.rows * tile.columns) % LANES:
        raise TypingError("the sums of a tile are taken LANES vectors at a time")
    return types.void(array, index, tile), build
