# SPDX-License-Identifier: Apache-2.0
"""Seeds and random numbers of single samples."""

from __future__ import annotations

import math

import numpy as np


def sample_seed(seed: int, index: int) -> int:
    """Seed of one sample: a function of the seed of the file and the index alone.

    Args:
        seed: Seed of the file, at least 0.
        index: Index of the sample, at least 0.

    Returns:
        A number of 64 bits.

    Example:
        >>> sample_seed(0, 1) != sample_seed(0, 2) != sample_seed(1, 2)
        True
    """
    return int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0])


class SampleStream:
    """Random numbers of one sample, the same on every machine and version.

    Only the raw integers of the counter-based generator Philox are used, which NumPy promises to
    keep; its distributions may change.

    Args:
        seed: As returned by :func:`sample_seed`.

    Example:
        >>> 0.0 <= SampleStream(7).uniform() < 1.0
        True
    """

    def __init__(self, seed: int) -> None:
        self._source = np.random.Philox(key=seed)

    def uniform(self) -> float:
        """Return the next number, uniform in [0, 1), a multiple of 2^-53."""
        return (int(self._source.random_raw()) >> 11) * 2.0**-53

    def normal(self) -> float:
        """Return the next number, standard Gaussian, by the method of Box and Muller."""
        radius = math.sqrt(-2.0 * math.log(1.0 - self.uniform()))
        return radius * math.cos(2.0 * math.pi * self.uniform())
