"""Randomness as a function: the hash of a counter in place of a generator that has a state."""

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)      # 2**64 / golden ratio, odd: multiples of it are spread evenly


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: a one-to-one map of 64 bits in which each input bit flips half of the output."""
    with np.errstate(over="ignore"):        # arithmetic modulo 2**64 is what is meant
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def hash_words(*words: Any) -> NDArray[np.uint64]:
    """A 64-bit hash of a key; words are integers or integer arrays, broadcast against each other.

    `hash_words(*key, i)` is number i of the generator splitmix64 that starts in the state `hash_words(*key)`.
    """
    state = np.zeros((), np.uint64)
    for word in words:
        if not isinstance(word, np.ndarray):
            word = np.array(operator.index(word) % 2**64, np.uint64)        # -1 is 2**64 - 1, as in C
        with np.errstate(over="ignore"):
            state = mix(state + GOLDEN * (word.astype(np.uint64) + np.uint64(1)))
    return state
