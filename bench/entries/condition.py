# SPDX-License-Identifier: Apache-2.0
"""Entries of the constraint update: ``condition_diagonal`` and ``condition_dense``.

Inputs are standard normal means, rows and targets, variances uniform in [0.1, 1.1], no noise; a
dense prior is a diagonal plus eight random directions. Least traffic and arithmetic per item, in
float32: mean and variance in and out ``16 n``, rows ``4 m n`` (once if shared), a dense output
``4 n^2``, a dense prior the same again; ``2 n m^2 + 6 n m + m^3 / 3`` operations, a dense output
``n^2 m`` more (its symmetric half), a dense prior ``4 n^2 m`` instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.baselines import (
    Output,
    Update,
    cholesky_trsm,
    compiled_candidates,
    dense_trsm,
    published_dense,
    published_variance,
    torch_candidates,
)
from bench.entry import BenchmarkEntry, Inputs


_PUBLISHED_LIMIT = 2**30  # bytes of one float64 (batch, n, n) array; it makes about eight


def _diagonal(
    mean: Tensor, prior: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    from physcon_ext import ops

    result = ops.condition_diagonal(mean, prior, rows, target, noise)
    return result.mean, result.variance


def _diagonal_to_dense(
    mean: Tensor, prior: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    from physcon_ext import ops

    result = ops.condition_diagonal(mean, prior, rows, target, noise, covariance=True)
    return result.mean, result.covariance


def _dense(
    mean: Tensor, prior: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    from physcon_ext import ops

    result = ops.condition_dense(mean, prior, rows, target, noise)
    return result.mean, result.covariance


def _entry(
    batch: int,
    n: int,
    m: int,
    *,
    shared: bool = True,
    output: Output = "variance",
    dense_prior: bool = False,
    gradients: tuple[str, ...] = ("mean", "prior"),
    quick: bool = False,
    aim: float | None = None,
) -> BenchmarkEntry:
    def setup(seed: int) -> Inputs:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        prior = torch.rand(batch, n, generator=generator) + 0.1
        if dense_prior:
            directions = normal(batch, 8, n)
            prior = torch.baddbmm(torch.diag_embed(prior), directions.mT, directions, alpha=0.125)
        rows = normal(m, n) if shared else normal(batch, m, n)
        return Inputs(normal(batch, n), prior, rows, normal(batch, m), torch.zeros(batch, m))

    per_item = 16 * n
    if output == "covariance":
        per_item += 4 * n * n - 4 * n  # the dense result replaces the new variance
    if dense_prior:
        per_item += 4 * n * n - 4 * n
    arithmetic = 2 * n * m * m + 6 * n * m + m**3 // 3
    if dense_prior:
        arithmetic = 4 * n * n * m
    elif output == "covariance":
        arithmetic += n * n * m

    forward: Update = _diagonal
    reference: Update = cholesky_trsm
    published: Update | None = published_variance
    if output == "covariance":
        forward, reference, published = _diagonal_to_dense, dense_trsm, published_dense
    if dense_prior:
        forward = _dense
    if 8 * batch * n * n > _PUBLISHED_LIMIT:
        published = None

    prior_word = "dense" if dense_prior else "diagonal"
    name = f"{batch},{n},{m} {'shared' if shared else 'item'} {prior_word}->{output}"
    if "rows" in gradients:
        name += " rows-gradient"
    return BenchmarkEntry(
        name=name,
        op="condition_dense" if dense_prior else "condition_diagonal",
        batch=batch,
        n=n,
        m=m,
        shared=shared,
        output=output,
        device=torch.device("cpu"),
        dtype=torch.float32,
        gradients=gradients,
        setup=setup,
        forward=forward,
        reference=reference,
        published=published,
        candidates=torch_candidates(m=m, batch=batch, shared=shared, output=output),
        compiled=lambda threads: compiled_candidates(
            m=m, batch=batch, shared=shared, output=output, threads=threads
        ),
        bytes_moved=batch * per_item + 4 * m * n * (1 if shared else batch),
        flops=batch * arithmetic,
        passes=("forward+backward",) if "rows" in gradients else ("forward", "forward+backward"),
        quick=quick,
        aim=aim,
    )


ENTRIES = [
    _entry(201, 201, 1, shared=False, quick=True, aim=5.0),
    _entry(8, 1024, 32, quick=True, aim=5.0),
    _entry(10_000, 201, 1, aim=5.0),
    _entry(10_000, 201, 1, shared=False, aim=5.0),
    _entry(64, 200, 8, quick=True, aim=4.0),
    _entry(64, 200, 8, shared=False, aim=4.0),
    _entry(1000, 1024, 8, aim=5.0),
    _entry(1000, 1024, 8, shared=False, aim=5.0),
    _entry(64, 10_000, 16, aim=8.0),
    _entry(64, 10_000, 16, shared=False, aim=8.0),
    _entry(1, 100_000, 64, aim=4.0),
    _entry(16, 512, 16, output="covariance", quick=True, aim=1.5),
    _entry(8, 1024, 32, output="covariance", aim=1.5),
    _entry(256, 512, 16, output="covariance", dense_prior=True, aim=1.2),
    _entry(201, 201, 1, shared=False, gradients=("mean", "prior", "rows")),
    _entry(64, 200, 8, gradients=("mean", "prior", "rows")),
]
