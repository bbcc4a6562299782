"""Images through a chain of convolutions, in flat channel maps: `kernels/maps.py` draws them and makes the table.

The whole chain is one call: between Python's calls of twenty kernels a single image would wait longer than it computes.
A single image's channels are shared among the threads, layer by layer; of many images each thread takes its own.
"""

from numba import prange

from .. import reference
from .compiling import Kernel, function, helper
from .layout import takes
from .simd import LANES, add_row, constant_rows, load, outer_product, positive_rows, store, store_rows

SPAN = 8 if LANES == 16 else 9      # vectors in registers at a time: at least eight sums that do not wait for each
                                    # other, and nine of 8 lanes are an 8x8 map with its zeros, a ResNet's last


def run_maps(arenas, table, start, offset, value, bias, work):
    """As the reference's."""
    count, size, block = arenas.shape
    flat = arenas.reshape(count, size * block)
    if not takes(arenas):
        reference.maps.run_maps(arenas, table, start, offset, value, bias, work)
    elif block == 1:
        run_channels(work / 100, flat[0], block, table, start, offset, value, bias)
    else:
        run_blocks(count * work / 20, flat, block, table, start, offset, value, bias)


@Kernel
def run_channels(arena, block, table, start, offset, value, bias):
    """Layer after layer; the channels of a layer are shared among the threads."""
    for n in range(len(table)):
        for k in prange(table[n].channels):
            if table[n].kind == 1:
                for v in range(0, table[n].height * table[n].row * block, SPAN * LANES):
                    convolve_tile(arena, block, table[n], k, v, start, offset, value, bias)
                clear_edges(arena, block, table[n], k)
            else:
                copy_phase(arena, block, table[n], k)


@Kernel
def run_blocks(arenas, block, table, start, offset, value, bias):
    """Arena after arena, shared among the threads; all channels of one place in turn, which read the same pixels."""
    for a in prange(len(arenas)):
        for n in range(len(table)):
            if table[n].kind == 1:
                for v in range(0, table[n].height * table[n].row * block, SPAN * LANES):
                    for k in range(table[n].channels):
                        convolve_tile(arenas[a], block, table[n], k, v, start, offset, value, bias)
            for k in range(table[n].channels):
                if table[n].kind == 1:
                    clear_edges(arenas[a], block, table[n], k)
                else:
                    copy_phase(arenas[a], block, table[n], k)


@helper
def convolve_tile(arena, block, layer, k, v, start, offset, value, bias):
    """y[k] from number v on = relu(bias + residual + every kept weight times its shifted map), for one tile."""
    row = layer.first + k
    tile = constant_rows(1, SPAN, bias, row)
    if layer.residual >= 0:
        tile = add_row(tile, arena, (layer.residual + k * layer.plane) * block + v)
    tile = add_kept(tile, arena, layer.x * block + v, start[row], start[row + 1], offset, value)
    if layer.relu:
        tile = positive_rows(tile)
    store_rows(arena, (layer.y + k * layer.plane) * block + v, 0, tile, 1)


@helper
def add_kept(tile, arena, x, first, last, offset, value):
    """What the kept weights [first, last) add to a run of numbers that begins at x."""
    for entry in range(first, last):
        tile = outer_product(tile, value, entry, arena, x + offset[entry])
    return tile


@function
def clear_edges(arena, block, layer, k):
    """Zeros again where there are no pixels."""
    y, pixels, tile = layer.y + k * layer.plane, layer.height * layer.row, SPAN * LANES
    for i in range(layer.height):
        arena[(y + i * layer.row + layer.width) * block : (y + (i + 1) * layer.row) * block] = 0
    arena[(y + pixels) * block : y * block + (pixels * block + tile - 1) // tile * tile] = 0


@function
def copy_phase(arena, block, layer, k):
    """y[k] = every so manieth pixel of the map that it comes from."""
    phase, channel = k // layer.x_channels, k % layer.x_channels
    x, y = layer.x + channel * layer.x_plane, layer.y + k * layer.plane
    top, left, step = phase // layer.horizontal, phase % layer.horizontal, layer.horizontal * block
    height = (layer.x_height - top + layer.vertical - 1) // layer.vertical              # the rest is not on the map
    width = (layer.x_width - left + layer.horizontal - 1) // layer.horizontal
    for i in range(layer.height):
        source, place = (x + (i * layer.vertical + top) * layer.x_row + left) * block, (y + i * layer.row) * block
        filled = width if i < height else 0
        for j in range(filled):
            if block % LANES == 0:
                for b in range(0, block, LANES):
                    store(arena, place + j * block + b, load(arena, source + j * step + b))
            else:
                for b in range(block):
                    arena[place + j * block + b] = arena[source + j * step + b]
        arena[place + filled * block : place + layer.width * block] = 0
