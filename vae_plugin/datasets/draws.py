"""The random numbers of many images at once, each by a key of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

DRAWS = 4  # numbers of each key
FEW = 8  # keys for which numpy's own generators take less time

# numpy's SeedSequence (M. O'Neill, "Developing a seed_seq alternative", 2015), which mixes a key, and PCG64 (XSL RR
# 128/64, O'Neill 2014), which numpy promises never to change. A generator for each image takes 8 times as long.
_POOL = 4
_INIT_A, _MULT_A, _INIT_B, _MULT_B = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
_MIX_LEFT, _MIX_RIGHT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
_PCG = (0x2360ED051FC65DA4, 0x4385DF649FCCF645)
_32, _16 = np.uint64(32), np.uint32(16)
_LOW = np.uint64(0xFFFFFFFF)
_WORD = 1 << 32
_Wide = tuple[Any, Any]  # numbers of 128 bits: their high and low halves


def uniforms(key: Sequence[int], numbers: np.ndarray) -> np.ndarray:
    """Uniform numbers in [0, 1): (N, 4), float64.

    Row i is `numpy.random.default_rng((*key, numbers[i])).random(4)`, to the bit.

    Args:
        key: what the keys have in common, not negative.
        numbers: what ends each of them, (N,), not negative.
    """
    if len(numbers) < FEW or max(map(int, (*key, *numbers))) >= _WORD or len(key) >= _POOL:
        return np.array([np.random.default_rng((*key, int(n))).random(DRAWS) for n in numbers]).reshape(-1, DRAWS)
    words = [*([np.uint32(word)] * len(numbers) for word in key), numbers]
    with np.errstate(over="ignore"):
        return _pcg64(_seeds([np.asarray(word, dtype=np.uint32) for word in words]))


def _seeds(words: list[np.ndarray]) -> list[np.ndarray]:
    """`SeedSequence(words).generate_state(4, uint64)`, as four arrays (N,) of 64 bits."""
    constant = _INIT_A

    def hashed(value: Any) -> Any:
        nonlocal constant
        value = value ^ np.uint32(constant)
        constant = constant * _MULT_A % _WORD
        value = value * np.uint32(constant)
        return value ^ (value >> _16)

    zeros = np.zeros_like(words[0])
    pool = [hashed(words[i] if i < len(words) else zeros) for i in range(_POOL)]
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                mixed = pool[target] * _MIX_LEFT - hashed(pool[source]) * _MIX_RIGHT
                pool[target] = mixed ^ (mixed >> _16)
    constant = _INIT_B
    state: list[Any] = []
    for i in range(2 * _POOL):
        value: Any = pool[i % _POOL] ^ np.uint32(constant)
        constant = constant * _MULT_B % _WORD
        value = value * np.uint32(constant)
        state.append((value ^ (value >> _16)).astype(np.uint64))
    return [low | high << _32 for low, high in zip(state[::2], state[1::2], strict=True)]


def _pcg64(seeds: list[np.ndarray]) -> np.ndarray:
    """The first numbers of the generators that these four words seed, (N, 4) in [0, 1)."""
    begin, stream = (seeds[0], seeds[1]), (seeds[2], seeds[3])
    one, multiplier = np.uint64(1), (np.uint64(_PCG[0]), np.uint64(_PCG[1]))
    increment = (stream[0] << one | stream[1] >> np.uint64(63), stream[1] << one | one)
    state = _stepped(_sum(increment, begin), multiplier, increment)
    found = []
    for _ in range(DRAWS):
        state = _stepped(state, multiplier, increment)
        value, turn = state[0] ^ state[1], state[0] >> np.uint64(58)
        value = value >> turn | value << (np.uint64(64) - turn & np.uint64(63))
        found.append((value >> np.uint64(11)) * 2.0**-53)
    return np.stack(found, 1)


def _stepped(state: _Wide, multiplier: _Wide, increment: _Wide) -> _Wide:
    return _sum(_product(state, multiplier), increment)


def _sum(a: _Wide, b: _Wide) -> _Wide:
    low = a[1] + b[1]
    return a[0] + b[0] + (low < a[1]), low


def _product(a: _Wide, b: _Wide) -> _Wide:
    """a * b, modulo 2^128."""
    low, high = a[1] & _LOW, a[1] >> _32
    other_low, other_high = b[1] & _LOW, b[1] >> _32
    first, second, third = low * other_low, high * other_low, low * other_high
    middle = (first >> _32) + (second & _LOW) + (third & _LOW)
    carried = high * other_high + (second >> _32) + (third >> _32) + (middle >> _32)
    return carried + a[0] * b[1] + a[1] * b[0], a[1] * b[1]
