"""From stored pixels to the network's input, in plain NumPy: the specification of the augmentation kernel."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def crop_flip_normalise(images, index, dy, dx, flip, pad, table):
    """Image `index[b]`, in a border of raw zeros, cropped at (dy[b], dx[b]), mirrored where flip[b], normalised.

    Parameters
    ----------
    images : (N, C, H, W), uint8 or float; all of them, of which the batch uses a few.
    index : (B,) integers, the images of the batch.
    dy, dx : (B,) integers in 0 .. 2 pad, the corner of the crop in the padded image; `pad` is the middle.
    flip : (B,) bool, mirror left and right after the crop.
    pad : the width of the border. It is 0 in the stored pixels, *before* the table: black, not grey.
    table : (C, 256) float32, the value of each pixel of each channel; None for float images, used as given.

    Returns
    -------
    (B, C, H, W), float32 with a table, else in the images' own dtype.
    """
    _, channels, height, width = images.shape
    padded = np.pad(images[index], ((0, 0), (0, 0), (pad, pad), (pad, pad)))        # (B, C, H + 2 pad, W + 2 pad)
    windows = sliding_window_view(padded, (height, width), axis=(2, 3))             # (B, C, 2 pad + 1, 2 pad + 1, H, W)
    crop = windows[np.arange(len(index)), :, dy, dx]                                # (B, C, H, W)
    crop = np.where(flip[:, None, None, None], crop[..., ::-1], crop)
    return crop if table is None else table[np.arange(channels)[:, None, None], crop]
