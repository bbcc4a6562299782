"""One image through a chain of convolutions, in flat channel maps: `kernels/maps.py` draws them and makes the table.

The whole chain is one call: between Python's calls of twenty kernels a single image would wait longer than it computes.
"""

from numba import prange

from .. import reference
from .compiling import Kernel, function, helper
from .layout import takes
from .simd import LANES, add_row, constant_rows, outer_product, positive_rows, store_rows

SPAN = 8        # vectors of pixels in registers at a time: eight sums under way that do not wait for each other


def run_maps(arena, table, start, offset, value, bias, work):
    """As the reference's."""
    if not takes(arena):
        reference.maps.run_maps(arena, table, start, offset, value, bias, work)
    else:
        run_table(work / 100, arena, table, start, offset, value, bias)


@Kernel
def run_table(arena, table, start, offset, value, bias):
    """Layer after layer; the channels of a layer are shared among the threads."""
    for n in range(len(table)):
        for k in prange(table[n].channels):
            if table[n].kind == 1:
                convolve_channel(arena, table[n], k, start, offset, value, bias)
            else:
                copy_phase(arena, table[n], k)


@function
def convolve_channel(arena, layer, k, start, offset, value, bias):
    """y[k] = relu(bias + residual + every kept weight times its shifted map), zeros where the padding is."""
    row, size, y = layer.first + k, layer.height * layer.row, layer.y + k * layer.plane
    for v in range(0, size, SPAN * LANES):
        tile = constant_rows(1, SPAN, bias, row)
        if layer.residual >= 0:
            tile = add_row(tile, arena, layer.residual + k * layer.plane + v)
        tile = add_kept(tile, arena, layer.x + v, start[row], start[row + 1], offset, value)
        if layer.relu:
            tile = positive_rows(tile)
        store_rows(arena, y + v, 0, tile, 1)
    for i in range(layer.height):
        for j in range(layer.width, layer.row):
            arena[y + i * layer.row + j] = 0
    for v in range(size, -(-size // (SPAN * LANES)) * SPAN * LANES):
        arena[y + v] = 0


@helper
def add_kept(tile, arena, x, first, last, offset, value):
    """What the kept weights [first, last) add to a run of pixels that begins at x."""
    for entry in range(first, last):
        tile = outer_product(tile, value, entry, arena, x + offset[entry])
    return tile


@function
def copy_phase(arena, layer, k):
    """y[k] = every so manieth pixel of the map that it comes from."""
    phase, channel = k // layer.x_channels, k % layer.x_channels
    x, y = layer.x + channel * layer.x_plane, layer.y + k * layer.plane
    for i in range(layer.height):
        p = i * layer.vertical + phase // layer.horizontal
        for j in range(layer.width):
            q = j * layer.horizontal + phase % layer.horizontal
            inside = p < layer.x_height and q < layer.x_width
            arena[y + i * layer.row + j] = arena[x + p * layer.x_row + q] if inside else 0
