"""From stored pixels to the network's input, straight into batch-innermost memory."""

import numpy as np
from numba import prange

from .. import reference
from .compiling import Kernel
from .layout import allocate
from .layout import images as as_images


def crop_flip_normalise(images, index, dy, dx, flip, pad, table):
    """As the reference's."""
    if images.dtype != np.uint8 or table is None:
        return reference.augment.crop_flip_normalise(images, index, dy, dx, flip, pad, table)
    _, C, H, W = images.shape
    x = allocate((H * W, C, len(index)))
    look_up(x.size * 1.5, images, index, dy - pad, dx - pad, flip, table, x)
    return as_images(x, H, W)


@Kernel
def look_up(images, index, down, right, flip, table, x):
    """x[p, c, b] = the table's value of the stored pixel that pixel p of crop b shows; 0 is stored around the image.

    Nothing is padded, cropped or mirrored in memory: each pixel of the result finds its own source.
    """
    _, C, H, W = images.shape
    for p in prange(H * W):
        h, w = p // W, p % W
        for b in range(len(index)):
            row = h + down[b]
            column = (W - 1 - w if flip[b] else w) + right[b]
            inside = 0 <= row < H and 0 <= column < W
            for c in range(C):
                value = images[index[b], c, row, column] if inside else np.uint8(0)
                x[p, c, b] = table[c, value]
