# SPDX-License-Identifier: Apache-2.0
"""Diagonal, cross and dense priors on linear rows, and their adjoints, in torch operations.

``C = G S``, ``A = C G^T + R = L L^T``, ``V = L^-1 C``; ``O(n r^2)`` per item, float64 inside,
whatever the matrix-product precision of float32 is set to. Nothing is read back to the host.
"""

from __future__ import annotations

import torch
from torch import Tensor

from physcon_ext.ops.composite.rank_system import (
    EPS64,
    JOSEPH_LEVERAGE,
    RankSystem,
    apply,
    factor_rows,
    inverse_factor,
    pivot_rounding,
)


_CORRECTIONS = 3
# Elements of a float64 copy of a dense prior that are made at once.
_PANEL_ELEMENTS = 1 << 24


def condition_diagonal(
    mean: Tensor,
    variance: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor,
    factor: bool,
    covariance: bool,
) -> tuple[Tensor, ...]:
    """Composite of ``physcon::condition_diagonal``."""
    g, s = rows.double(), variance.double()
    cross = g * s[..., None, :]
    system, moved = _solve(mean, cross, g, target, noise, None)
    whitened = system.inverse @ g
    leverage = s * whitened.square().sum(-2)
    left = s * (1 - leverage)
    repaired = _joseph(system, whitened, leverage, left, s, g, noise, target)
    v = whitened * s[..., None, :]
    empty = v[..., :0, :]
    dense = _downdate(torch.diag_embed(variance), v, repaired) if covariance else empty
    return (
        _answer(moved, system, mean),
        _answer(repaired, system, mean),
        _answer(v if factor or covariance else empty, system, mean),
        _answer(dense, system, mean),
        system.cholesky,
        system.multipliers,
        system.info,
    )


def condition_cross(
    mean: Tensor,
    variance: Tensor,
    cross: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor,
    factor: bool,
) -> tuple[Tensor, ...]:
    """Composite of ``physcon::condition_cross``."""
    system, moved, left, v = _condition_general(mean, variance, cross, rows, target, noise)
    return (
        _answer(moved, system, mean),
        _answer(left, system, mean),
        _answer(v if factor else v[..., :0, :], system, mean),
        system.cholesky,
        system.multipliers,
        system.info,
    )


def condition_dense(
    mean: Tensor,
    prior_covariance: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor,
    covariance: bool,
) -> tuple[Tensor, ...]:
    """Composite of ``physcon::condition_dense``."""
    n = mean.shape[-1]
    items = max(1, prior_covariance.numel() // n)
    width = max(1, min(n, _PANEL_ELEMENTS // items))
    panels = [
        (rows.double() @ prior_covariance[..., j : j + width].double()).to(mean.dtype)
        for j in range(0, n, width)
    ]
    cross = torch.cat(panels, -1)
    variance = prior_covariance.diagonal(dim1=-2, dim2=-1)
    system, moved, left, v = _condition_general(mean, variance, cross, rows, target, noise)
    dense = _downdate(prior_covariance, v, left) if covariance else v[..., :0, :]
    return (
        _answer(moved, system, mean),
        _answer(left, system, mean),
        _answer(v, system, mean),
        _answer(dense, system, mean),
        cross,
        system.cholesky,
        system.multipliers,
        system.info,
    )


def condition_diagonal_backward(
    grad_mean: Tensor,
    grad_variance: Tensor,
    grad_factor: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor,
    cholesky: Tensor,
    multipliers: Tensor,
    rows_needed: bool,
) -> tuple[Tensor, ...]:
    """Composite of ``physcon::condition_diagonal_backward``."""
    g, s, p, q = rows.double(), variance.double(), grad_mean.double(), grad_variance.double()
    w = inverse_factor(cholesky)
    upstream = None if grad_factor is None else grad_factor.double()
    a, adjoint = _adjoint_system(w, g * s[..., None, :], p, q, upstream, multipliers)
    y = adjoint @ g
    cross_bar = _cross_gradient(w, w @ g, y, p, q * s, upstream, multipliers)
    rows_bar = s[..., None, :] * (cross_bar + y) - a[..., :, None] * mean.double()[..., None, :]
    dtype = mean.dtype
    return (
        (p - apply(g.mT, a)).to(dtype),
        (q + (cross_bar * g).sum(-2)).to(dtype),
        _rows_gradient(rows_bar, rows, rows_needed).to(dtype),
        a.to(dtype),
        adjoint.to(dtype),
    )


def condition_cross_backward(
    grad_mean: Tensor,
    grad_variance: Tensor,
    grad_factor: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    cross: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor,
    cholesky: Tensor,
    multipliers: Tensor,
    rows_needed: bool,
) -> tuple[Tensor, ...]:
    """Composite of ``physcon::condition_cross_backward``."""
    g, c, p, q = rows.double(), cross.double(), grad_mean.double(), grad_variance.double()
    w = inverse_factor(cholesky)
    upstream = None if grad_factor is None else grad_factor.double()
    a, adjoint = _adjoint_system(w, c, p, q, upstream, multipliers)
    cross_bar = _cross_gradient(w, w @ c, adjoint @ g, p, q, upstream, multipliers)
    rows_bar = adjoint @ c - a[..., :, None] * mean.double()[..., None, :]
    dtype = mean.dtype
    return (
        (p - apply(g.mT, a)).to(dtype),
        grad_variance.clone(memory_format=torch.contiguous_format),
        cross_bar.to(dtype),
        _rows_gradient(rows_bar, rows, rows_needed).to(dtype),
        a.to(dtype),
        adjoint.to(dtype),
    )


# ---- forward -------------------------------------------------------------------------------------


def _noise_product(noise: Tensor, target: Tensor, x: Tensor) -> Tensor:
    """``R x`` for vectors; the noise is per row, or a matrix with one axis more than target."""
    return apply(noise.double(), x) if noise.ndim > target.ndim else noise.double() * x


def _solve(
    mean: Tensor,
    cross: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor,
    variance: Tensor | None,
) -> tuple[RankSystem, Tensor]:
    """Factor the rows and move the mean until ``G m' + R alpha = b`` to rounding.

    ``variance`` is given for a correlated prior: its noise-free rows may be certain.
    """
    m, b, r = mean.double(), target.double(), target.shape[-1]
    eps = torch.finfo(mean.dtype).eps
    matrix = noise.double() if noise.ndim > target.ndim else torch.diag_embed(noise.double())
    gram = cross @ rows.mT + matrix
    certain = None
    if variance is not None:
        # C itself is rounded to the dtype of the data, so that is how exactly A_kk is known.
        rounding = pivot_rounding(r) if eps == EPS64 else eps
        size = (rows.square() * variance[..., None, :]).sum(-1)
        own = gram.diagonal(dim1=-2, dim2=-1)
        certain = (matrix.diagonal(dim1=-2, dim2=-1) == 0) & (own <= rounding * size)
    products = rows * m[..., None, :]
    system = factor_rows(gram, b - products.sum(-1), products.abs().sum(-1) + b.abs(), eps, certain)
    alpha = system.multipliers
    moved = m + apply(cross.mT, alpha)
    for _ in range(_CORRECTIONS):  # of the mean itself: a far prior mean would round again
        observed = (rows * moved[..., None, :]).sum(-1) + _noise_product(noise, target, alpha)
        delta = system.solve(b - observed)
        alpha, moved = alpha + delta, moved + apply(cross.mT, delta)
    return system._replace(multipliers=alpha), moved


def _condition_general(
    mean: Tensor, variance: Tensor, cross: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[RankSystem, Tensor, Tensor, Tensor]:
    s, c = variance.double(), cross.double()
    system, moved = _solve(mean, c, rows.double(), target, noise, s)
    v = system.inverse @ c
    left = s - v.square().sum(-2)
    # No square root of the prior is known here: rounding below zero becomes zero.
    left = torch.where(left < (1 - JOSEPH_LEVERAGE) * s, left.clamp(min=0), left)
    return system, moved, left, v


def _joseph(
    system: RankSystem,
    whitened: Tensor,
    leverage: Tensor,
    left: Tensor,
    variance: Tensor,
    rows: Tensor,
    noise: Tensor,
    target: Tensor,
) -> Tensor:
    """Replace variances that cancel by ``(e - G' K)' S (e - G' K) + K' R K``.

    Leverages add up to at most the rank, so at most ``r / 0.9`` points of an item need it.
    """
    n, r = variance.shape[-1], target.shape[-1]
    count = min(n, int(r / JOSEPH_LEVERAGE) + 1)
    cells = leverage.topk(count, -1).indices
    index = cells[..., None, :].expand(*cells.shape[:-1], r, count)
    prior = variance.gather(-1, cells)
    gain = system.inverse.mT @ (whitened.expand(*cells.shape[:-1], r, n).gather(-1, index))
    gain = gain * prior[..., None, :]
    weights = -(gain.mT @ rows)
    weights = weights.scatter_add(-1, cells[..., None], torch.ones_like(cells[..., None]).double())
    if noise.ndim > target.ndim:
        observed = (gain * (noise.double() @ gain)).sum(-2)
    else:
        observed = (gain.square() * noise.double()[..., None]).sum(-2)
    summed = (weights.square() * variance[..., None, :]).sum(-1) + observed
    old = left.gather(-1, cells)
    return left.scatter(-1, cells, torch.where(old < (1 - JOSEPH_LEVERAGE) * prior, summed, old))


def _downdate(prior: Tensor, v: Tensor, variance: Tensor) -> Tensor:
    """``S - V^T V``, exactly symmetric when ``S`` is, with the given diagonal."""
    removed = v.mT @ v
    dense = prior - (removed + removed.mT) / 2
    dense.diagonal(dim1=-2, dim2=-1).copy_(variance)
    return dense


def _answer(value: Tensor, system: RankSystem, like: Tensor) -> Tensor:
    """In the dtype of the data; NaN for an item that is not finite."""
    finite = system.finite[(...,) + (None,) * (value.ndim - system.finite.ndim)]
    return torch.where(finite, value, torch.nan).to(like.dtype)


# ---- adjoint -------------------------------------------------------------------------------------


def _adjoint_system(
    w: Tensor, cross: Tensor, p: Tensor, q: Tensor, upstream: Tensor | None, alpha: Tensor
) -> tuple[Tensor, Tensor]:
    """``a = A^-1 C p`` and the gradient of ``A``.

    ``W' [ W C diag(q) C' W' - sym Phi(Vb V') ] W - sym(a alpha')``, ``Phi`` the lower triangle
    with half the diagonal.
    """
    a = apply(w.mT, apply(w, apply(cross, p)))
    v = w @ cross
    inner = (v * q[..., None, :]) @ v.mT
    if upstream is not None:
        product = upstream @ v.mT
        lower = product.tril(-1) + torch.diag_embed(product.diagonal(dim1=-2, dim2=-1)) / 2
        inner = inner - (lower + lower.mT) / 2
    outer = a[..., :, None] * alpha[..., None, :]
    adjoint = w.mT @ inner @ w - outer
    return a, (adjoint + adjoint.mT) / 2


def _cross_gradient(
    w: Tensor,
    whitened: Tensor,
    y: Tensor,
    p: Tensor,
    weight: Tensor,
    upstream: Tensor | None,
    alpha: Tensor,
) -> Tensor:
    """``alpha p' + Ab G + W' (Vb - 2 W C diag(q))``."""
    through = -2 * weight[..., None, :] * whitened
    if upstream is not None:
        through = through + upstream
    return alpha[..., :, None] * p[..., None, :] + y + w.mT @ through


def _rows_gradient(full: Tensor, rows: Tensor, needed: bool) -> Tensor:
    """Summed over the batch for shared rows; empty when not needed."""
    if not needed:
        return full[..., :0, :]
    extra = full.ndim - rows.ndim
    return full.sum(tuple(range(extra))) if extra else full
