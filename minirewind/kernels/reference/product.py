"""The product of matrices, which linear layers are made of."""


def matmul(x, y):
    """z[..., m, n] = the sum over k of x[..., m, k] * y[..., k, n]"""
    return x @ y
