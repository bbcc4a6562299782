"""One image through a chain of convolutions, in flat channel maps: `kernels/maps.py` draws them and has the table."""

import numpy as np

from ..maps import CONVOLVE


def run_maps(arenas, table, start, offset, value, bias, work):
    """Every layer of the table, one after the other, in place in the arenas (arena, pixel, block of images).

    `work` counts the multiplications of one arena.
    """
    for arena in arenas:
        for layer in table:
            for k in range(layer["channels"]):
                if layer["kind"] == CONVOLVE:
                    convolve_channel(arena, layer, k, start, offset, value, bias)
                else:
                    copy_phase(arena, layer, k)


def convolve_channel(arena, layer, k, start, offset, value, bias):
    """y[k] = relu(bias + residual + every kept weight times its shifted map), zeros where the padding is."""
    row, size = layer["first"] + k, layer["height"] * layer["row"]
    y = layer["y"] + k * layer["plane"]
    total = np.full((size, arena.shape[1]), bias[row], arena.dtype)
    if layer["residual"] >= 0:
        residual = layer["residual"] + k * layer["plane"]
        total += arena[residual : residual + size]
    for entry in range(start[row], start[row + 1]):
        place = layer["x"] + offset[entry] // arena.shape[1]
        total += value[entry] * arena[place : place + size]
    total = total.reshape(layer["height"], layer["row"], -1)
    total[:, layer["width"] :] = 0
    arena[y : y + size] = (np.maximum(total, 0) if layer["relu"] else total).reshape(size, -1)


def copy_phase(arena, layer, k):
    """y[k] = every so manieth pixel of the map that it comes from."""
    phase, channel = divmod(k, layer["x_channels"])
    y = layer["y"] + k * layer["plane"]
    for i in range(layer["height"]):
        for j in range(layer["width"]):
            p = i * layer["vertical"] + phase // layer["horizontal"]
            q = j * layer["horizontal"] + phase % layer["horizontal"]
            inside = p < layer["x_height"] and q < layer["x_width"]
            place = layer["x"] + channel * layer["x_plane"] + p * layer["x_row"] + q
            arena[y + i * layer["row"] + j] = arena[place] if inside else 0
