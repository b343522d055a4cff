# SPDX-License-Identifier: Apache-2.0
"""Soft rows: second differences are as small as those of an AR(1) process would be."""

import torch
from torch import Tensor

from physcon_ext.checks import check_dtype, check_finite, check_not_negative, first_index, fmt
from physcon_ext.constraints.linear import LinearConstraint, make_group
from physcon_ext.constraints.rows import BandedRows


_FLOOR = 1e-6  # of the variance that independent cells would give


def smoothness(
    x: Tensor,
    variance: Tensor,
    rho: float = 0.9,
    *,
    h_ref: float | None = None,
    name: str = "smooth",
) -> LinearConstraint:
    r"""Second differences are observed as 0, with the variance they would have under AR(1).

    .. math:: c_- u_{i-1} - 2 u_i + c_+ u_{i+1} = 0 + N(0, v_i), \qquad
              c_\mp = \frac{2 h_\pm}{h_- + h_+}

    with correlations :math:`\rho_\pm = \rho^{h_\pm / h_{ref}}` between neighbours in :math:`v_i`,
    so that the correlation length does not depend on the grid.

    Args:
        x: Ascending points, ``(n,)``, ``n >= 3``.
        variance: *Prior* variance at the points, ``(*batch, n)``, zeros allowed.
        rho: Correlation of neighbours that are ``h_ref`` apart, in ``[0, 1]``.
        h_ref: Spacing that ``rho`` refers to; if not given, the mean spacing, so that a uniform
            grid has the published form ``(1, -2, 1)`` with ``rho`` everywhere.
        name: Name of the rows in messages.

    Returns:
        ``n - 2`` banded rows. ``v_i`` is at least ``1e-6`` of the value for independent cells
        (``rho = 1`` would make it 0). A row of three cells without variance has weight 0.

    Raises:
        TypeError: If an argument is not a tensor of the right dtype.
        ValueError: If shapes do not fit, ``x`` does not ascend, ``variance`` is negative or not
            finite, or ``rho`` or ``h_ref`` is out of range.

    Notes:
        Sharpens the likelihood inside the range of the training data and makes the field
        over-confident outside. Source: ProbConserv (arXiv 2302.11002) for the uniform form.

    Example:
        >>> smoothness(torch.arange(4.0), torch.ones(4)).rows
        tensor([[ 1., -2.,  1.,  0.],
                [ 0.,  1., -2.,  1.]])
    """
    who = "smoothness"
    check_dtype(who, "x", x)
    check_dtype(who, "variance", variance, like=x, like_name="x")
    if x.ndim != 1 or x.shape[0] < 3:
        raise ValueError(f"{who}: expected x to have shape (n,) with n >= 3, got {tuple(x.shape)}")
    if variance.ndim == 0 or variance.shape[-1] != x.shape[0]:
        raise ValueError(
            f"{who}: expected variance to have {x.shape[0]} values on its last axis, "
            f"got shape {tuple(variance.shape)}"
        )
    check_finite(who, "x", x)
    gaps = x.double().diff()
    if bool((gaps <= 0).any()):
        k = first_index(gaps <= 0)[0]
        raise ValueError(
            f"{who}: expected x to ascend, got {fmt(x[k])} followed by {fmt(x[k + 1])} at index {k}"
        )
    if not 0.0 <= rho <= 1.0:
        raise ValueError(f"{who}: expected rho to be in [0, 1], got {rho}")
    if h_ref is not None and not h_ref > 0.0:
        raise ValueError(f"{who}: expected h_ref to be > 0, got {h_ref}")
    check_finite(who, "variance", variance)
    check_not_negative(who, "variance", variance)

    mean_gap = gaps.mean()
    tolerance = 64 * torch.finfo(x.dtype).eps * x.double().abs().max()
    if bool((gaps - mean_gap).abs().max() <= tolerance):
        gaps = mean_gap.expand_as(gaps)  # uniform but for rounding of the points
    h = gaps / (mean_gap if h_ref is None else h_ref)
    stencil, v = _rows_and_variance(h[:-1], h[1:], variance.double(), rho)
    idle = _three_cells(variance == 0).all(0)
    if bool(idle.any()):
        stencil = torch.where(idle[..., None], 0.0, stencil)
        v = torch.where(idle, 1.0, v)
    rows = BandedRows(stencil.to(variance.dtype))
    target = torch.zeros(rows.n_rows, dtype=variance.dtype, device=variance.device)
    noise = v.to(variance.dtype)
    if noise.ndim > 1:
        target = target.expand_as(noise)
    group = make_group(who, rows, target, noise, name, validate=False)
    return LinearConstraint.from_groups([group])


def _three_cells(x: Tensor) -> Tensor:
    return torch.stack([x[..., :-2], x[..., 1:-1], x[..., 2:]])


def _rows_and_variance(left: Tensor, right: Tensor, s: Tensor, rho: float) -> tuple[Tensor, Tensor]:
    """Return the stencil ``(n - 2, 3)`` and the variance of its rows for gaps in units of h_ref."""
    c_left, c_right = 2 * right / (left + right), 2 * left / (left + right)
    stencil = torch.stack([c_left, torch.full_like(left, -2.0), c_right], -1)
    rho_left, rho_right = rho**left, rho**right
    s_left, s_mid, s_right = _three_cells(s)
    independent = c_left**2 * s_left + 4 * s_mid + c_right**2 * s_right
    v = (
        independent
        - 4 * c_left * rho_left * _geometric_mean(s_left, s_mid)
        - 4 * c_right * rho_right * _geometric_mean(s_mid, s_right)
        + 2 * c_left * c_right * rho_left * rho_right * _geometric_mean(s_left, s_right)
    )
    return stencil, torch.maximum(v, _FLOOR * independent)


def _geometric_mean(a: Tensor, b: Tensor) -> Tensor:
    """Return ``sqrt(a) sqrt(b)``, with gradient 0 instead of infinity where either is 0."""
    positive = (a > 0) & (b > 0)
    one = torch.ones_like(a * b)
    root = torch.where(positive, a, one).sqrt() * torch.where(positive, b, one).sqrt()
    return torch.where(positive, root, 0.0)
