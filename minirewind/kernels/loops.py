"""Convolution as its definition reads: plain loops over single numbers, which Python runs and Numba can compile.

The first three are seven loops around one product of x, weight and y; they differ only in which of the three collects
it. The others are what the CPU's kernels do, without their registers and threads, on its memory [pixels, C, N] (see
cpu/layout.py). Nothing is fast here. All are held to the reference in the tests, and the lessons begin with them.
"""

import numpy as np


def conv2d(x, weight, stride, padding):
    """Each output sums up what is under the window, times the filter.    -> (N, K, P, Q)"""
    N, C, H, W = x.shape
    K, C, R, S = weight.shape
    P, Q = (H + 2 * padding[0] - R) // stride[0] + 1, (W + 2 * padding[1] - S) // stride[1] + 1
    y = np.zeros((N, K, P, Q), x.dtype)
    for n in range(N):
        for k in range(K):
            for p in range(P):
                for q in range(Q):
                    for c in range(C):
                        for r in range(R):
                            for s in range(S):
                                h, w = p * stride[0] + r - padding[0], q * stride[1] + s - padding[1]
                                if 0 <= h < H and 0 <= w < W:
                                    y[n, k, p, q] += x[n, c, h, w] * weight[k, c, r, s]
    return y


def conv2d_input_gradient(dy, weight, x_shape, stride, padding):
    """Each pixel collects from all outputs that saw it, times the filter entry through which they did.    -> x_shape"""
    N, C, H, W = x_shape
    K, C, R, S = weight.shape
    dx = np.zeros(x_shape, dy.dtype)
    for n in range(N):
        for k in range(K):
            for p in range(dy.shape[2]):
                for q in range(dy.shape[3]):
                    for c in range(C):
                        for r in range(R):
                            for s in range(S):
                                h, w = p * stride[0] + r - padding[0], q * stride[1] + s - padding[1]
                                if 0 <= h < H and 0 <= w < W:
                                    dx[n, c, h, w] += dy[n, k, p, q] * weight[k, c, r, s]
    return dx


def conv2d_weight_gradient(dy, x, weight_shape, stride, padding):
    """Each filter entry collects from all outputs, times the pixel that it met there.    -> weight_shape"""
    N, C, H, W = x.shape
    K, C, R, S = weight_shape
    dweight = np.zeros(weight_shape, dy.dtype)
    for n in range(N):
        for k in range(K):
            for p in range(dy.shape[2]):
                for q in range(dy.shape[3]):
                    for c in range(C):
                        for r in range(R):
                            for s in range(S):
                                h, w = p * stride[0] + r - padding[0], q * stride[1] + s - padding[1]
                                if 0 <= h < H and 0 <= w < W:
                                    dweight[k, c, r, s] += dy[n, k, p, q] * x[n, c, h, w]
    return dweight


def conv2d_steps(x, weight, bias, stride, padding):
    """conv2d with a bias (K,) or None, as the backends have it."""
    y = conv2d(x, weight, stride, padding)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


def add_taps(x, weight, source, y):
    """y[q, k, :] += weight[k, c, t] * x[source[q, t], c, :] for every tap t that sees a pixel; ":" are the images."""
    for q in range(source.shape[0]):
        for t in range(source.shape[1]):
            p = source[q, t]
            if p >= 0:
                for k in range(weight.shape[0]):
                    for c in range(weight.shape[1]):
                        for n in range(x.shape[2]):
                            y[q, k, n] += weight[k, c, t] * x[p, c, n]


def add_kept(x, weight, start, channel, tap, position, source, y):
    """y[q, k, :] += weight * x[pixel, channel, :] for the kept weights of row k: entries start[k] to start[k + 1]."""
    for q in range(source.shape[0]):
        for k in range(y.shape[1]):
            for entry in range(start[k], start[k + 1]):
                p = source[q, tap[entry]]
                if p >= 0:
                    value, c = weight[position[entry]], channel[entry]    # inside they would be read for each image
                    for n in range(x.shape[2]):
                        y[q, k, n] += value * x[p, c, n]


def dot_in_lanes(x, w, lanes):
    """The sum of x * w as a processor with vectors adds it up: `lanes` sums side by side, folded in half at the end."""
    sums = np.zeros(lanes, x.dtype)
    whole = len(x) - len(x) % lanes
    for i in range(0, whole, lanes):
        sums += x[i : i + lanes] * w[i : i + lanes]
    sums[: len(x) - whole] += x[whole:] * w[whole:]
    while len(sums) > 1:
        half = len(sums) // 2
        sums = sums[:half] + sums[half:]
    return sums[0]


# The three matrices of Winograd's convolution (Lavin and Gray, 2016), for 4 outputs of a 3-tap filter on 6 pixels.
SPREAD = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
                   [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1.0]])                   # B'
FILTER = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24        # G
GATHER = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1.0]])     # A'


def winograd_tile(pixels, weight):
    """The 4 x 4 outputs of a filter (3, 3) on pixels (6, 6), with 36 products:    A' [(G g G') * (B' d B)] A

    Both may be stacks of such, (..., 6, 6) and (..., 3, 3).
    """
    spread = SPREAD @ pixels @ SPREAD.T                                   # (6, 6)
    filters = FILTER @ weight @ FILTER.T                                  # (6, 6)
    return GATHER @ (spread * filters) @ GATHER.T                         # (4, 4)
