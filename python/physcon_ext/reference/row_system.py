# SPDX-License-Identifier: Apache-2.0
"""The algebra that all reference operations share: rows, their ranks and their status.

C = G S, A = C G^T + R, e = b - G m, alpha = A^-1 e, K = C^T A^-1, V = L^-1 C with A = L L^T;
m' = m + C^T alpha and S' = (I - K G) S (I - K G)^T + K R K^T. Everything is float64 and dense.
"""

from enum import IntEnum

import torch
from torch import Tensor

from physcon_ext.checks import broadcast_shape
from physcon_ext.reference.results import Conditioned


_EPS = torch.finfo(torch.float64).eps


class RowStatus(IntEnum):
    """What became of one row of one item."""

    USED = 0
    REDUNDANT = 1  # implied by earlier rows and consistent with them; dropped
    INCONSISTENT = 2  # contradicts earlier rows; dropped
    INFEASIBLE = 3  # no variance and no noise on the whole row, residual not zero; dropped
    SATISFIED = 4  # no variance and no noise, residual zero; dropped
    NON_FINITE = 5  # the item holds NaN or infinity; its outputs are NaN


def apply(rows: Tensor, x: Tensor) -> Tensor:
    """Return ``rows @ x`` for vectors ``(..., n)``, ``(..., r)``."""
    return (rows @ x[..., None])[..., 0]


def noise_matrix(noise: Tensor | float, target: Tensor) -> Tensor:
    """Return the noise as a symmetric matrix; a tensor with one axis more than target is one."""
    noise = torch.as_tensor(noise, dtype=torch.float64, device=target.device)
    if noise.ndim == target.ndim + 1:
        return (noise + noise.mT) / 2
    return torch.diag_embed(noise.expand(broadcast_shape(noise.shape, target.shape[-1:])))


def condition(
    mean: Tensor,
    variance: Tensor,
    cross: Tensor,
    rows: Tensor,
    target: Tensor,
    noise: Tensor | float,
    prior_covariance: Tensor | None,
    *,
    factor: bool,
    covariance: bool,
) -> Conditioned:
    """Condition on the rows. With the prior covariance given, the variance does not cancel."""
    dtype = mean.dtype
    n, r = mean.shape[-1], target.shape[-1]
    given = [(mean, 1), (variance, 1), (target, 1), (cross, 2), (rows, 2)]
    given.append((noise_matrix(noise, target), 2))
    if prior_covariance is not None:
        given.append((prior_covariance, 2))
    finite, tensors = _finite_items(given)
    batch = finite.shape
    mean, variance, target, cross, rows, noise = tensors[:6]
    sigma = tensors[6] if prior_covariance is not None else None

    # Every row is scaled to unit size before anything is squared or compared.
    with torch.no_grad():
        spread = rows.abs() * variance.clamp(min=0).sqrt()[..., None, :]
        own = noise.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
        scale = torch.cat([spread, own[..., None]], -1).amax(-1)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    g, c = rows / scale[..., None], cross / scale[..., None]
    b, rr = target / scale, noise / (scale[..., None] * scale[..., None, :])
    a = c @ g.mT + rr
    a = (a + a.mT) / 2
    e = b - apply(g, mean)
    with torch.no_grad():
        eps = torch.finfo(dtype).eps
        magnitude = apply(g.abs(), mean.abs()) + b.abs()
        random = (g**2 * variance[..., None, :]).sum(-1)
        floor = 16 * max(r, 4) * _EPS * random
        certain = (rr.diagonal(dim1=-2, dim2=-1) == 0) & (a.diagonal(dim1=-2, dim2=-1) <= floor)
        info = row_status(a, e, magnitude, certain, eps)
        used = info == RowStatus.USED
    both = used[..., None] & used[..., None, :]
    root = torch.where(used, a.diagonal(dim1=-2, dim2=-1), torch.ones_like(e)).detach().sqrt()
    unit = torch.eye(r, dtype=torch.float64, device=a.device)
    low = torch.linalg.cholesky(torch.where(both, a / (root[..., None] * root[..., None, :]), unit))
    low = low * root[..., None]  # the factor of A with unit rows where A is dropped
    keep = used[..., None].to(torch.float64)

    def solve(x: Tensor) -> Tensor:
        return torch.cholesky_solve(keep * x, low) * keep

    alpha = solve(e[..., None])[..., 0]
    moved = mean + (c.mT @ alpha[..., None])[..., 0]
    rest = b - apply(g, moved) - apply(rr, alpha)  # one step of residual correction
    alpha = alpha + solve(rest[..., None])[..., 0]
    moved = mean + (c.mT @ alpha[..., None])[..., 0]
    v = torch.linalg.solve_triangular(low, keep * c, upper=False)
    if sigma is None:
        posterior = None
        marginal = (variance - (v * v).sum(-2)).clamp(min=0)
    else:
        gain = solve(c).mT
        remove = torch.eye(n, dtype=torch.float64, device=a.device) - gain @ g
        posterior = remove @ sigma @ remove.mT + gain @ rr @ gain.mT
        posterior = (posterior + posterior.mT) / 2
        marginal = posterior.diagonal(dim1=-2, dim2=-1)

    def answer(x: Tensor, to: torch.dtype) -> Tensor:
        mask = finite[(...,) + (None,) * (x.ndim - len(batch))]
        return torch.where(mask, x, torch.full_like(x, torch.nan)).to(to)

    with torch.no_grad():
        cholesky = torch.where(both, low * scale[..., None], torch.zeros_like(low))
        dropped = torch.where(used, torch.zeros_like(e), torch.full_like(e, torch.inf))
        cholesky = cholesky + torch.diag_embed(dropped) if r else cholesky
        cholesky = torch.where(cholesky.isnan(), torch.zeros_like(cholesky), cholesky)
        info = torch.where(finite[..., None], info, RowStatus.NON_FINITE).to(torch.int32)
    nothing = mean.new_zeros(*batch, 0, n)
    return Conditioned(
        mean=answer(moved, dtype),
        variance=answer(marginal, dtype),
        factor=answer(v if factor else nothing, dtype),
        covariance=answer(posterior if covariance and posterior is not None else nothing, dtype),
        cholesky=answer(cholesky, torch.float64),
        multipliers=answer(alpha / scale, torch.float64).detach(),
        info=info,
    )


def _finite_items(given: list[tuple[Tensor, int]]) -> tuple[Tensor, list[Tensor]]:
    """Broadcast the tensors, given with their trailing axes, over items and cast to float64.

    Items that hold NaN or infinity are marked and computed as zeros, so that they touch no other.
    """
    batch = broadcast_shape(*(t.shape[: t.ndim - k] for t, k in given))
    tensors = [t.double().expand(*batch, *t.shape[t.ndim - k :]) for t, k in given]
    finite = torch.ones(batch, dtype=torch.bool, device=tensors[0].device)
    for t in tensors:
        finite = finite & t.isfinite().flatten(len(batch)).all(-1)
    masks = [finite.reshape(*batch, *(1,) * k) for _, k in given]
    zeroed = [torch.where(m, t, torch.zeros_like(t)) for m, t in zip(masks, tensors, strict=True)]
    return finite, zeroed


def row_status(a: Tensor, e: Tensor, magnitude: Tensor, certain: Tensor, eps: float) -> Tensor:
    """Return the status of every row: Cholesky in row order of the equilibrated matrix.

    A pivot of at most ``16 max(r, 4) eps64 (1 + |c|^2)`` marks a row as dependent on those before
    it, ``c`` being the coefficients with which these combine to it: the rounding error of the
    pivot grows with them. It is consistent when its residual, after the part that the others
    explain, is at most ``64 eps`` of the size of the sums involved, plus what the rounding of
    ``c`` contributes, ``16 max(r, 4) eps64 (1 + |c|_1) |A^-1 e|_1`` in equilibrated units.
    """
    batch, r = e.shape[:-1], e.shape[-1]
    info = torch.zeros(*batch, r, dtype=torch.int32, device=e.device)
    diagonal = a.diagonal(dim1=-2, dim2=-1)
    root = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal)).sqrt()
    schur = a / (root[..., None] * root[..., None, :])
    rest, size = e / root, magnitude / root
    low = torch.eye(r, dtype=a.dtype, device=a.device).expand(*batch, r, r).clone()
    done = torch.zeros_like(e)  # L^-1 e
    for k in range(r):
        pivot = schur[..., k, k]
        # c: how the earlier rows combine to this one; low has zeros in the columns of dropped rows
        row = low[..., k, :k]
        c = torch.linalg.solve_triangular(low[..., :k, :k].mT, row[..., None], upper=True)[..., 0]
        rounding = 16 * max(r, 4) * _EPS * (1 + c.square().sum(-1))
        dependent = (pivot <= rounding) & ~certain[..., k]
        used = ~dependent & ~certain[..., k]
        reach = size[..., k] + torch.where(dependent[..., None], c.abs() * size[..., :k], 0).sum(-1)
        # The rounding of the matrix moves c, and with it the residual, by up to this much.
        alpha = torch.linalg.solve_triangular(low[..., :k, :k].mT, done[..., :k, None], upper=True)[
            ..., 0
        ]
        moved = (1 + c.abs().sum(-1)) * alpha.abs().sum(-1)
        slack = 64 * eps * reach + torch.where(dependent, 16 * max(r, 4) * _EPS * moved, 0)
        agrees = rest[..., k].abs() <= slack
        status = torch.where(
            dependent,
            torch.where(agrees, int(RowStatus.REDUNDANT), int(RowStatus.INCONSISTENT)),
            torch.where(agrees, int(RowStatus.SATISFIED), int(RowStatus.INFEASIBLE)),
        )
        info[..., k] = torch.where(used, int(RowStatus.USED), status)
        # eliminate the row from those below it; a dropped row eliminates nothing
        safe = torch.where(used, pivot, torch.ones_like(pivot)).sqrt()
        column = torch.where(used[..., None], schur[..., :, k] / safe[..., None], 0)
        y = torch.where(used, rest[..., k] / safe, 0)
        done[..., k] = y
        schur = schur - column[..., :, None] * column[..., None, :]
        rest = rest - torch.where(
            torch.arange(r, device=e.device) > k, column * y[..., None], torch.zeros_like(column)
        )
        low[..., k + 1 :, k] = column[..., k + 1 :]
        low[..., k, k] = torch.where(used, safe, torch.ones_like(safe))
        low[..., k, :k] = torch.where(used[..., None], row, torch.zeros_like(row))
    return info
