"""Sums of whole arrays: where a tensor was used twice, two gradients meet."""


def add(x, y):
    """x + y, of equal shapes."""
    return x + y
