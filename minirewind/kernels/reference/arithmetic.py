"""Sums and products of whole arrays."""


def add(x, y):
    """x + y, of equal shapes: where a tensor was used twice, two gradients meet."""
    return x + y


def matmul(x, y):
    """z[..., m, n] = the sum over k of x[..., m, k] * y[..., k, n]"""
    return x @ y
