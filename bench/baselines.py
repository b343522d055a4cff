# SPDX-License-Identifier: Apache-2.0
"""Baselines of the constraint update: the published dense formulation and the best plain PyTorch.

Symbols, for one item: ``G`` rows (m, n), ``s`` prior variance (n,), ``S`` prior covariance,
``C = G S`` cross covariance (m, n), ``A = C G^T + R`` (m, m), ``e = b - G mean``.
Every function takes ``(mean, prior, rows, target, noise)`` with shapes ``(batch, n)``,
``(batch, n)`` or ``(batch, n, n)``, ``(m, n)`` or ``(batch, m, n)``, ``(batch, m)`` and
``(batch, m)`` (variance per row), and returns the new mean and the new variance, or the new mean
and the new covariance. None of them checks its input: they are what a careful user would write
inline, so that the comparison charges them for arithmetic and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


Update = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Output = Literal["variance", "covariance"]

# Floats in the working array of `blocked_cells`: 1 MiB, measured best among 1/16 to 2 MiB.
_BLOCK_FLOATS = 256 * 1024


@dataclass(frozen=True)
class Candidate:
    """One formulation: its name, the function, and whether autograd can run through it."""

    name: str
    update: Update
    differentiable: bool
    compiled: bool = False


# --------------------------------------------------------------------------------------------
# D: the published dense formulation, float64.


def published_dense(
    mean: Tensor, prior: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return mean and covariance from the gain form ``S' = (I - K G) S``, dense and in float64.

    ``A = G S G^T + R`` is solved by LU with ``n`` right-hand sides, and the covariance is an
    ``n x n x n`` product per item, whatever the number of rows.
    """
    dtype = mean.dtype
    covariance = prior.double() if prior.ndim == 3 else torch.diag_embed(prior.double())
    g = rows.double().expand(mean.shape[0], *rows.shape[-2:])
    cross = g @ covariance
    a = cross @ g.mT + torch.diag_embed(noise.double())
    gain = torch.linalg.solve(a, cross).mT
    residual = target.double() - (g @ mean.double()[..., None])[..., 0]
    posterior_mean = mean.double() + (gain @ residual[..., None])[..., 0]
    identity = torch.eye(mean.shape[-1], dtype=torch.float64)
    posterior = (identity - gain @ g) @ covariance
    return posterior_mean.to(dtype), posterior.to(dtype)


def published_variance(
    mean: Tensor, prior: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return mean and marginal variance: the diagonal of :func:`published_dense`."""
    posterior_mean, posterior = published_dense(mean, prior, rows, target, noise)
    return posterior_mean, torch.diagonal(posterior, dim1=-2, dim2=-1).contiguous()


# --------------------------------------------------------------------------------------------
# T, one row: no factorisation at all.


def row_sum(
    mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """One row; the two inner products as a product and a sum."""
    g = rows[..., 0, :]
    cross = variance * g
    inverse = 1.0 / ((cross * g).sum(-1, keepdim=True) + noise)
    residual = target - (mean * g).sum(-1, keepdim=True)
    return (
        torch.addcmul(mean, cross, residual * inverse),
        torch.addcmul(variance, cross * cross, inverse, value=-1.0),
    )


def row_bmm(
    mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """One row; the two inner products as batched matrix products."""
    g = rows.expand(mean.shape[0], 1, mean.shape[-1])
    cross = variance * g[:, 0]
    inverse = 1.0 / (torch.bmm(g, cross[..., None])[..., 0] + noise)
    residual = target - torch.bmm(g, mean[..., None])[..., 0]
    return (
        torch.addcmul(mean, cross, residual * inverse),
        torch.addcmul(variance, cross * cross, inverse, value=-1.0),
    )


def row_gemv(
    mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """One shared row; the inner products of the whole batch are two matrix-vector products."""
    g = rows[0]
    inverse = 1.0 / (torch.mv(variance, g * g)[:, None] + noise)
    residual = target - torch.mv(mean, g)[:, None]
    cross = variance * g
    return (
        torch.addcmul(mean, cross, residual * inverse),
        torch.addcmul(variance, cross * cross, inverse, value=-1.0),
    )


def row_gemv_outer(
    mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """One shared row; gain as an outer product, variance as ``s - s^2 (g^2 / a)``."""
    g = rows[0]
    square = g * g
    inverse = 1.0 / (torch.mv(variance, square)[:, None] + noise)
    residual = target - torch.mv(mean, g)[:, None]
    return (
        torch.addcmul(mean, variance, (residual * inverse) * g),
        torch.addcmul(variance, variance * variance, inverse * square, value=-1.0),
    )


def row_in_place(
    mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """One row, any sharing; as few temporaries as in-place arithmetic allows."""
    g = rows[..., 0, :]
    cross = variance * g
    work = cross * g
    inverse = work.sum(-1, keepdim=True).add_(noise).reciprocal_()
    torch.mul(mean, g, out=work)
    residual = torch.sub(target, work.sum(-1, keepdim=True)).mul_(inverse)
    posterior_mean = torch.addcmul(mean, cross, residual, out=work)
    cross.mul_(cross)
    return posterior_mean, torch.addcmul(variance, cross, inverse, value=-1.0, out=cross)


def row_gemv_in_place(
    mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """One shared row; matrix-vector products and in-place arithmetic."""
    g = rows[0]
    inverse = torch.mv(variance, g * g)[:, None].add_(noise).reciprocal_()
    residual = torch.sub(target, torch.mv(mean, g)[:, None]).mul_(inverse)
    cross = variance * g
    posterior_mean = torch.addcmul(mean, cross, residual)
    cross.mul_(cross)
    return posterior_mean, torch.addcmul(variance, cross, inverse, value=-1.0, out=cross)


# --------------------------------------------------------------------------------------------
# T, several rows.


def _cross_system(
    mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``C`` (batch, m, n), ``A`` (batch, m, m) and ``e`` (batch, m, 1), diagonal prior."""
    cross = rows * variance[:, None, :]
    a = torch.matmul(cross, rows.mT)
    torch.diagonal(a, dim1=-2, dim2=-1).add_(noise)
    if rows.ndim == 2:
        residual = target - mean @ rows.mT
    else:
        residual = target - torch.bmm(rows, mean[..., None])[..., 0]
    return cross, a, residual[..., None]


def _triangular_inverse(a: Tensor) -> Tensor:
    """Return the inverse of the lower Cholesky factor of ``a``, without reading a status."""
    factor = torch.linalg.cholesky_ex(a)[0]
    identity = torch.eye(a.shape[-1], dtype=a.dtype)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity.expand_as(a), upper=False)
    return inverse


def cholesky_trsm(
    mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Textbook: Cholesky, then a triangular solve with ``n`` right-hand sides."""
    cross, a, residual = _cross_system(mean, variance, rows, target, noise)
    factor = torch.linalg.cholesky_ex(a)[0]
    v = torch.linalg.solve_triangular(factor, cross, upper=False)
    w = torch.linalg.solve_triangular(factor, residual, upper=False)
    return mean + (v.mT @ w)[..., 0], variance - (v * v).sum(-2)


def cholesky_inverse_gemm(
    mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Invert the m x m factor and replace the wide triangular solve by a matrix product."""
    cross, a, residual = _cross_system(mean, variance, rows, target, noise)
    inverse = _triangular_inverse(a)
    v = torch.bmm(inverse, cross)
    alpha = torch.bmm(inverse.mT, torch.bmm(inverse, residual))
    gain = torch.bmm(alpha.mT, cross)[:, 0]
    return mean + gain, variance - (v * v).sum(-2)


def full_inverse(
    mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Use ``A^-1`` itself: variance from the product of ``C`` and ``A^-1 C``."""
    cross, a, residual = _cross_system(mean, variance, rows, target, noise)
    inverse = torch.linalg.inv_ex(a)[0]
    gain = torch.bmm(inverse, cross)
    return (
        torch.addcmul(mean, variance, _combine(rows, torch.bmm(inverse, residual)[..., 0])),
        variance - (gain * cross).sum(-2),
    )


def _combine(rows: Tensor, alpha: Tensor) -> Tensor:
    """Return ``G^T alpha`` (batch, n)."""
    if rows.ndim == 2:
        return alpha @ rows
    return torch.bmm(alpha[:, None, :], rows)[:, 0]


def einsum_inverse(
    mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """The same contractions left to ``einsum``."""
    g = rows.expand(mean.shape[0], *rows.shape[-2:])
    cross = g * variance[:, None, :]
    a = torch.einsum("bkn,bln->bkl", cross, g) + torch.diag_embed(noise)
    inverse = _triangular_inverse(a)
    residual = target - torch.einsum("bkn,bn->bk", g, mean)
    v = torch.einsum("bkl,bln->bkn", inverse, cross)
    w = torch.einsum("bkl,bl->bk", inverse, residual)
    return (
        mean + torch.einsum("bkn,bk->bn", v, w),
        variance - torch.einsum("bkn,bkn->bn", v, v),
    )


def pairwise_gemm(m: int, *, in_place: bool) -> Update:
    """Shared rows: ``A`` of the whole batch is one product with the pairwise products of rows.

    ``A_kl = sum_i s_i G_ki G_li`` is linear in ``s``, and ``c_i^T A^-1 c_i`` is linear in ``A^-1``:
    two large matrix products over the ``m (m + 1) / 2`` pairs, and no (batch, m, n) array at all.
    The index tables depend on ``m`` only and are made here, outside the timed function.
    """
    k, low = torch.tril_indices(m, m)
    weight = torch.where(k == low, 1.0, 2.0)
    position = torch.zeros(m, m, dtype=torch.int64)
    position[k, low] = torch.arange(len(k))
    position[low, k] = torch.arange(len(k))

    def update(
        mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        pairs = rows[k] * rows[low]
        a = (variance @ pairs.mT)[:, position] + torch.diag_embed(noise)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(a)[0])
        residual = target - mean @ rows.mT
        alpha = torch.bmm(inverse, residual[..., None])[..., 0]
        gain = alpha @ rows
        spread = (inverse[:, k, low] * weight) @ pairs
        if not in_place:
            return (
                torch.addcmul(mean, variance, gain),
                torch.addcmul(variance, variance * variance, spread, value=-1.0),
            )
        torch.addcmul(mean, variance, gain, out=gain)
        spread.mul_(variance)
        return gain, torch.addcmul(variance, variance, spread, value=-1.0, out=spread)

    return update


def pairwise_square(
    mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Shared rows: :func:`pairwise_gemm` with all m^2 pairs; more arithmetic, no gathers."""
    batch, n = mean.shape
    m = target.shape[-1]
    pairs = (rows[:, None] * rows).reshape(m * m, n)
    a = (variance @ pairs.mT).reshape(batch, m, m) + torch.diag_embed(noise)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(a)[0])
    residual = target - mean @ rows.mT
    alpha = torch.bmm(inverse, residual[..., None])[..., 0]
    spread = inverse.reshape(batch, m * m) @ pairs
    return (
        torch.addcmul(mean, variance, alpha @ rows),
        torch.addcmul(variance, variance * variance, spread, value=-1.0),
    )


def blocked_cells(
    mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Blocks of cells: the (m, block) arrays never leave the second-level cache."""
    batch, n = mean.shape
    m = target.shape[-1]
    step = max(64, _BLOCK_FLOATS // m)
    posterior_mean, posterior = torch.empty_like(mean), torch.empty_like(variance)
    work = mean.new_empty(m, step)
    for item in range(batch):
        g = rows if rows.ndim == 2 else rows[item]
        s = variance[item]
        a = torch.diag(noise[item])
        for begin in range(0, n, step):
            block = slice(begin, min(begin + step, n))
            cross = torch.mul(g[:, block], s[block], out=work[:, : block.stop - begin])
            a.addmm_(cross, g[:, block].mT)
        inverse = _triangular_inverse(a)
        alpha = inverse.mT @ (inverse @ (target[item] - g @ mean[item]))
        torch.addcmul(mean[item], s, alpha @ g, out=posterior_mean[item])
        for begin in range(0, n, step):
            block = slice(begin, min(begin + step, n))
            v = torch.mm(inverse, g[:, block], out=work[:, : block.stop - begin])
            spread = v.mul_(v).sum(0).mul_(s[block])
            torch.addcmul(s[block], s[block], spread, value=-1.0, out=posterior[item, block])
    return posterior_mean, posterior


def blocked_items(step: int) -> Update:
    """Blocks of ``step`` items: the (step, m, n) array is reused and stays in cache."""

    def update(
        mean: Tensor, variance: Tensor, rows: Tensor, target: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, n = mean.shape
        m = target.shape[-1]
        posterior_mean, posterior = torch.empty_like(mean), torch.empty_like(variance)
        work = mean.new_empty(min(step, batch), m, n)
        for begin in range(0, batch, step):
            block = slice(begin, min(begin + step, batch))
            s = variance[block]
            g = rows[block] if rows.ndim == 3 else rows.expand(len(s), m, n)
            cross = torch.mul(g, s[:, None], out=work[: len(s)])
            a = torch.bmm(cross, g.mT)
            torch.diagonal(a, dim1=-2, dim2=-1).add_(noise[block])
            inverse = _triangular_inverse(a)
            residual = torch.baddbmm(target[block, :, None], g, mean[block, :, None], alpha=-1.0)
            alpha = torch.bmm(inverse.mT, torch.bmm(inverse, residual))
            gain = torch.bmm(alpha.mT, g)[:, 0]
            torch.addcmul(mean[block], s, gain, out=posterior_mean[block])
            v = torch.bmm(inverse, g, out=cross)
            spread = v.mul_(v).sum(-2).mul_(s)
            torch.addcmul(s, s, spread, value=-1.0, out=posterior[block])
        return posterior_mean, posterior

    return update


# --------------------------------------------------------------------------------------------
# T, dense output.


def dense_baddbmm(
    mean: Tensor, prior: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Dense prior or diagonal prior; ``S - V^T V`` as one ``baddbmm``."""
    cross, a, residual = _dense_system(mean, prior, rows, target, noise)
    inverse = _triangular_inverse(a)
    v = torch.bmm(inverse, cross)
    w = torch.bmm(inverse, residual)
    prior = torch.diag_embed(prior) if prior.ndim == 2 else prior
    return mean + torch.bmm(w.mT, v)[:, 0], torch.baddbmm(prior, v.mT, v, alpha=-1.0)


def dense_subtract(
    mean: Tensor, prior: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Dense or diagonal prior; the product first, with the sign in the small factor."""
    cross, a, residual = _dense_system(mean, prior, rows, target, noise)
    inverse = _triangular_inverse(a)
    v = torch.bmm(inverse, cross)
    w = torch.bmm(inverse, residual)
    posterior = torch.bmm(-v.mT, v)
    if prior.ndim == 2:
        torch.diagonal(posterior, dim1=-2, dim2=-1).add_(prior)
    else:
        posterior = posterior + prior
    return mean + torch.bmm(w.mT, v)[:, 0], posterior


def dense_gain(
    mean: Tensor, prior: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Dense or diagonal prior; ``S - C^T (A^-1 C)`` with the inverse of ``A``."""
    cross, a, residual = _dense_system(mean, prior, rows, target, noise)
    inverse = torch.linalg.inv_ex(a)[0]
    gain = torch.bmm(inverse, cross)
    prior = torch.diag_embed(prior) if prior.ndim == 2 else prior
    posterior_mean = mean + torch.bmm(residual.mT, gain)[:, 0]
    return posterior_mean, torch.baddbmm(prior, cross.mT, gain, alpha=-1.0)


def dense_trsm(
    mean: Tensor, prior: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Textbook: Cholesky and a wide triangular solve."""
    cross, a, residual = _dense_system(mean, prior, rows, target, noise)
    factor = torch.linalg.cholesky_ex(a)[0]
    v = torch.linalg.solve_triangular(factor, cross, upper=False)
    w = torch.linalg.solve_triangular(factor, residual, upper=False)
    prior = torch.diag_embed(prior) if prior.ndim == 2 else prior
    return mean + torch.bmm(w.mT, v)[:, 0], torch.baddbmm(prior, v.mT, v, alpha=-1.0)


def dense_in_place(
    mean: Tensor, prior: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Dense or diagonal prior; the product written once, the prior added in place."""
    cross, a, residual = _dense_system(mean, prior, rows, target, noise)
    inverse = _triangular_inverse(a)
    v = torch.bmm(inverse, cross)
    w = torch.bmm(inverse, residual)
    posterior = torch.bmm(-v.mT, v)
    if prior.ndim == 2:
        torch.diagonal(posterior, dim1=-2, dim2=-1).add_(prior)
    else:
        posterior.add_(prior)
    return mean + torch.bmm(w.mT, v)[:, 0], posterior


def dense_blocked(
    mean: Tensor, prior: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Item by item, so that the covariance just read or written is still in cache."""
    batch, n = mean.shape
    posterior_mean = torch.empty_like(mean)
    posterior = mean.new_empty(batch, n, n)
    residual = target - (
        mean @ rows.mT if rows.ndim == 2 else torch.bmm(rows, mean[..., None])[..., 0]
    )
    for item in range(batch):
        g = rows if rows.ndim == 2 else rows[item]
        cross = torch.mm(g, prior[item]) if prior.ndim == 3 else g * prior[item]
        a = torch.mm(cross, g.mT)
        a.diagonal().add_(noise[item])
        inverse = _triangular_inverse(a)
        v = torch.mm(inverse, cross)
        w = torch.mv(inverse, residual[item])
        torch.addmv(mean[item], v.mT, w, out=posterior_mean[item])
        out = posterior[item]
        if prior.ndim == 3:
            torch.addmm(prior[item], v.mT, v, alpha=-1.0, out=out)
        else:
            torch.mm(-v.mT, v, out=out)
            out.diagonal().add_(prior[item])
    return posterior_mean, posterior


def _dense_system(
    mean: Tensor, prior: Tensor, rows: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`_cross_system` for a diagonal or a dense prior."""
    if prior.ndim == 2:
        return _cross_system(mean, prior, rows, target, noise)
    cross = torch.matmul(rows, prior)
    a = torch.matmul(cross, rows.mT)
    torch.diagonal(a, dim1=-2, dim2=-1).add_(noise)
    residual = target - torch.matmul(rows, mean[..., None])[..., 0]
    return cross, a, residual[..., None]


# --------------------------------------------------------------------------------------------
# Which candidates enter for a shape.


def torch_candidates(*, m: int, batch: int, shared: bool, output: Output) -> list[Candidate]:
    """Return the plain PyTorch formulations worth timing for a class of shapes.

    Args:
        m: Constraint rows per item.
        batch: Items.
        shared: Whether all items share one set of rows.
        output: ``"variance"`` for the marginal variance, ``"covariance"`` for the dense result.

    Returns:
        Eager candidates; the compiled ones come from :func:`compiled_candidates`.
    """
    if output == "covariance":
        return [
            Candidate("dense_baddbmm", dense_baddbmm, True),
            Candidate("dense_subtract", dense_subtract, True),
            Candidate("dense_in_place", dense_in_place, True),
            Candidate("dense_gain", dense_gain, True),
            Candidate("dense_trsm", dense_trsm, True),
            Candidate("dense_blocked", dense_blocked, False),
        ]
    if m == 1:
        found = [
            Candidate("row_sum", row_sum, True),
            Candidate("row_bmm", row_bmm, True),
            Candidate("row_in_place", row_in_place, False),
        ]
        if shared:
            found += [
                Candidate("row_gemv", row_gemv, True),
                Candidate("row_gemv_outer", row_gemv_outer, True),
                Candidate("row_gemv_in_place", row_gemv_in_place, False),
            ]
        return found
    found = [
        Candidate("cholesky_trsm", cholesky_trsm, True),
        Candidate("cholesky_inverse_gemm", cholesky_inverse_gemm, True),
        Candidate("full_inverse", full_inverse, True),
        Candidate("einsum_inverse", einsum_inverse, True),
        Candidate("blocked_cells", blocked_cells, False),
        Candidate("blocked_items_1", blocked_items(1), False),
    ]
    if batch >= 64:
        found.append(Candidate("blocked_items_64", blocked_items(64), False))
    if shared and batch > 1:
        found += [
            Candidate("pairwise_gemm", pairwise_gemm(m, in_place=False), True),
            Candidate("pairwise_gemm_in_place", pairwise_gemm(m, in_place=True), False),
            Candidate("pairwise_square", pairwise_square, True),
        ]
    return found


def compiled_candidates(
    *, m: int, batch: int, shared: bool, output: Output, threads: int
) -> list[Candidate]:
    """Return the formulations that profit from ``torch.compile``, wrapped in it.

    The thread count is part of the generated code, hence an argument. Compilation happens at the
    first call and needs a C++ compiler; a candidate that fails to compile is left out by the
    caller.
    """
    if output == "covariance":
        chosen: list[tuple[str, Update]] = [("dense_subtract", dense_subtract)]
    elif m == 1:
        chosen = [("row_sum", row_sum)]
    else:
        chosen = [("einsum_inverse", einsum_inverse)]
        if shared and batch > 1:
            chosen.append(("pairwise_gemm", pairwise_gemm(m, in_place=False)))
    options: dict[str, str | int | bool | Callable[..., object]] = {"cpp.threads": threads}
    return [
        Candidate(
            f"compiled {name}",
            torch.compile(update, dynamic=False, options=options),
            True,
            compiled=True,
        )
        for name, update in chosen
    ]
