"""Randomness as a function: a hash of counters in place of a generator with a state."""

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(x):
    """Scramble 64 bits (the finaliser of splitmix64): inputs that differ in one bit differ in about half of the output."""
    x = np.asarray(x, np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_words(*words):
    """One 64-bit hash of several integers, or arrays of them that broadcast: any change of any word changes it all."""
    h = np.uint64(0)
    with np.errstate(over="ignore"):
        for word in words:
            h = mix((h + GOLDEN) ^ np.asarray(word).astype(np.uint64))
    return h
