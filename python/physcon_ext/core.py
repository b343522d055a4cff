# SPDX-License-Identifier: Apache-2.0
r"""The torch-free core on NumPy arrays: no copies, no gradients, one thread.

Every function reads its arguments in place and refuses an array that would need a copy. An argument
is given per item, ``(*batch, ...)`` with the batch axes of ``mean``, or without batch axes, shared
by all items. ``mean_out`` and ``variance_out`` receive the results where given.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from physcon_ext import _C


Array = NDArray[Any]

_NAME = "physcon::core"


class Conditioned(NamedTuple):
    """A Gaussian conditioned on ``r`` rows.

    Attributes:
        mean: Posterior mean, ``(*batch, n)``.
        variance: Posterior marginal variance, ``(*batch, n)``.
        factor: ``V`` with posterior = prior - ``V^T V``, ``(*batch, r, n)``, or None; for disjoint
            rows its entries in the order of the weights, ``(*batch, p)``.
        covariance: Posterior covariance, ``(*batch, n, n)``, or None.
        cholesky: Lower Cholesky factor of ``A``, ``(*batch, r, r)`` float64, with an infinite
            diagonal where a row was dropped; for disjoint rows its diagonal, ``(*batch, r)``.
        multipliers: ``A^-1 (b - G mean)``, ``(*batch, r)`` float64.
        info: Status of each row, ``(*batch, r)`` int32: 0 used, 1 redundant, 2 inconsistent,
            3 infeasible, 4 already satisfied, 5 not finite.
    """

    mean: Array
    variance: Array
    factor: Array | None
    covariance: Array | None
    cholesky: NDArray[np.float64]
    multipliers: NDArray[np.float64]
    info: NDArray[np.int32]


class ConditionedBanded(NamedTuple):
    """A diagonal Gaussian conditioned on rows of three neighbouring points.

    Attributes:
        mean: Posterior mean, ``(*batch, n)``.
        variance: Posterior marginal variance, ``(*batch, n)``.
        band: Lower Cholesky bands of ``I + E^T R^-1 E``, ``(*batch, 3, n)`` float64.
        multipliers: ``(*batch, n - 2)`` float64.
        info: 0, or 5 for an item that is not finite, ``(*batch, 1)`` int32.
    """

    mean: Array
    variance: Array
    band: NDArray[np.float64]
    multipliers: NDArray[np.float64]
    info: NDArray[np.int32]


class _Call:
    """Checks the arguments of one call and shapes them as (items, ...) views."""

    def __init__(self, op: str, mean: Array) -> None:
        self.op = f"{_NAME}.{op}"
        if isinstance(mean, np.ndarray) and mean.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"{self.op}: expected mean to have dtype float32 or float64, got {mean.dtype}"
            )
        self.dtype = mean.dtype if isinstance(mean, np.ndarray) else np.dtype(np.float64)
        self._check("mean", mean, self.dtype)
        if mean.ndim == 0 or mean.shape[-1] == 0:
            raise ValueError(
                f"{self.op}: expected mean to hold at least 1 point, got shape {mean.shape}"
            )
        self.batch = mean.shape[:-1]
        self.items = int(np.prod(self.batch, dtype=np.int64))
        self.n = mean.shape[-1]
        self.inputs: list[Array] = []
        self.mean = self.read("mean", mean, self.n)

    def _check(self, name: str, value: Array, dtype: np.dtype[Any]) -> None:
        if not isinstance(value, np.ndarray):
            raise TypeError(
                f"{self.op}: expected {name} to be a numpy.ndarray, got {type(value).__name__}"
            )
        if value.dtype != dtype:
            raise TypeError(f"{self.op}: expected {name} to have dtype {dtype}, got {value.dtype}")
        if not (value.flags.c_contiguous and value.flags.aligned):
            raise ValueError(
                f"{self.op}: expected {name} to be C-contiguous, got strides {value.strides} for "
                f"shape {value.shape}; pass numpy.ascontiguousarray({name})"
            )

    def read(self, name: str, value: Array, *core: int) -> Array:
        """View an input as (items, *core), or (1, *core) when the batch shares it."""
        self._check(name, value, self.dtype)
        if value.shape == (*self.batch, *core):
            view = value.reshape(self.items, *core)
        elif value.shape == core:
            view = value.reshape(1, *core)
        else:
            per_item = "" if not self.batch else f" or {(*self.batch, *core)}"
            raise ValueError(
                f"{self.op}: expected {name} to have shape {core}{per_item}, got {value.shape}"
            )
        self.inputs.append(view)
        return view

    def noise(self, value: Array | float, target: Array, rank: int) -> Array:
        """View the noise: a number, (r) variances, or an (r, r) matrix with one axis more."""
        if isinstance(value, (float, int)):
            return np.full((1, rank), value, dtype=self.dtype)
        if isinstance(value, np.ndarray) and value.ndim == target.ndim + 1:
            return self.read("noise", value, rank, rank)
        return self.read("noise", value, rank)

    def result(self, name: str, given: Array | None) -> Array:
        """Take the array for one output of shape (*batch, n), or make it."""
        shape = (*self.batch, self.n)
        if given is None:
            return np.empty(shape, dtype=self.dtype)
        self._check(name, given, self.dtype)
        if given.shape != shape:
            raise ValueError(f"{self.op}: expected {name} to have shape {shape}, got {given.shape}")
        if not given.flags.writeable:
            raise ValueError(f"{self.op}: expected {name} to be writeable, got a read-only array")
        if any(np.may_share_memory(given, value) for value in self.inputs):
            raise ValueError(f"{self.op}: expected {name} to share no memory with an input")
        self.inputs.append(given)
        return given

    def flat(self, value: Array) -> Array:
        """View an output as (items, ...)."""
        return value.reshape(self.items, *value.shape[len(self.batch) :])

    def empty(self, *core: int, dtype: type[Any] | np.dtype[Any] | None = None) -> Array:
        """Make an output of shape (*batch, *core)."""
        return np.empty((*self.batch, *core), dtype=dtype or self.dtype)


def _rank(call: _Call, rows: Array) -> int:
    if not isinstance(rows, np.ndarray) or rows.ndim < 2 or rows.shape[-2] == 0:
        got = getattr(rows, "shape", type(rows).__name__)
        raise ValueError(
            f"{call.op}: expected rows to have shape (..., r, n) with r >= 1, got {got}"
        )
    return int(rows.shape[-2])


def _condition(
    call: _Call,
    variance: Array | None,
    cross: Array | None,
    prior_covariance: Array | None,
    rows: Array,
    target: Array,
    noise: Array | float,
    factor: bool,
    covariance: bool,
    mean_out: Array | None,
    variance_out: Array | None,
) -> Conditioned:
    n, rank = call.n, _rank(call, rows)
    variance_view = None if variance is None else call.read("variance", variance, n)
    cross_view = None if cross is None else call.read("cross", cross, rank, n)
    dense = prior_covariance is not None
    prior_view = None
    if prior_covariance is not None:
        prior_view = call.read("prior_covariance", prior_covariance, n, n)
    rows_view = call.read("rows", rows, rank, n)
    target_view = call.read("target", target, rank)
    noise_view = call.noise(noise, target, rank)
    out = Conditioned(
        mean=call.result("mean_out", mean_out),
        variance=call.result("variance_out", variance_out),
        factor=call.empty(rank, n) if factor or covariance or dense else None,
        covariance=call.empty(n, n) if covariance else None,
        cholesky=call.empty(rank, rank, dtype=np.float64),
        multipliers=call.empty(rank, dtype=np.float64),
        info=call.empty(rank, dtype=np.int32),
    )
    _C.condition(
        call.mean,
        variance_view,
        cross_view,
        prior_view,
        rows_view,
        target_view,
        noise_view,
        call.flat(out.mean),
        call.flat(out.variance),
        None if out.factor is None else call.flat(out.factor),
        None if out.covariance is None else call.flat(out.covariance),
        call.flat(call.empty(rank, n)) if dense else None,
        call.flat(out.cholesky),
        call.flat(out.multipliers),
        call.flat(out.info),
    )
    return out if factor else out._replace(factor=None)


def condition_diagonal(
    mean: Array,
    variance: Array,
    rows: Array,
    target: Array,
    noise: Array | float = 0.0,
    *,
    factor: bool = False,
    covariance: bool = False,
    mean_out: Array | None = None,
    variance_out: Array | None = None,
) -> Conditioned:
    r"""Condition independent Gaussian variables on linear rows.

    .. math:: m' = m + S G^T A^{-1} (b - G m), \quad S' = S - S G^T A^{-1} G S,
              \quad A = G S G^T + R

    Args:
        mean: Prior mean :math:`m`, ``(*batch, n)`` float32 or float64, C-contiguous.
        variance: Prior variance, the diagonal of :math:`S`, ``(n,)`` or ``(*batch, n)``, >= 0.
        rows: :math:`G`, ``(r, n)`` or ``(*batch, r, n)``.
        target: :math:`b`, ``(r,)`` or ``(*batch, r)``.
        noise: :math:`R`: a number, variances of the shape of ``target``, or with one axis more a
            covariance ``(r, r)`` or ``(*batch, r, r)``.
        factor: Return :math:`V` too.
        covariance: Return the dense posterior covariance too.
        mean_out: Receives the posterior mean.
        variance_out: Receives the posterior variance.

    Returns:
        The posterior.

    Raises:
        TypeError: If an argument is not an array or has another dtype than ``mean``.
        ValueError: If a shape or stride does not fit, or an output overlaps an input.

    Notes:
        Conservation: ``G mean' = b`` to rounding for rows without noise.
        Determinism: the same bits on every run. Cost: ``O(batch r^2 n)``.

    Example:
        >>> post = condition_diagonal(
        ...     np.zeros(2), np.ones(2), np.ones((1, 2)), np.array([1.0])
        ... )
        >>> post.mean
        array([0.5, 0.5])
    """
    call = _Call("condition_diagonal", mean)
    return _condition(
        call, variance, None, None, rows, target, noise, factor, covariance, mean_out, variance_out
    )


def condition_cross(
    mean: Array,
    variance: Array,
    cross: Array,
    rows: Array,
    target: Array,
    noise: Array | float = 0.0,
    *,
    factor: bool = False,
    mean_out: Array | None = None,
    variance_out: Array | None = None,
) -> Conditioned:
    r"""Condition any Gaussian on linear rows, given the cross covariance with them.

    .. math:: m' = m + C^T A^{-1} (b - G m), \quad A = C G^T + R, \quad C = G \Sigma

    Args:
        mean: Prior mean :math:`m`, ``(*batch, n)``.
        variance: Prior marginal variance, the diagonal of :math:`\Sigma`, ``(n,)`` or
            ``(*batch, n)``.
        cross: :math:`C`, ``(r, n)`` or ``(*batch, r, n)``.
        rows: :math:`G`, ``(r, n)`` or ``(*batch, r, n)``.
        target: :math:`b`, ``(r,)`` or ``(*batch, r)``.
        noise: As in :func:`condition_diagonal`.
        factor: Return :math:`V` too.
        mean_out: Receives the posterior mean.
        variance_out: Receives the posterior variance.

    Returns:
        The posterior; ``covariance`` is None.

    Raises:
        TypeError: If an argument is not an array or has another dtype than ``mean``.
        ValueError: If a shape or stride does not fit, or an output overlaps an input.

    Example:
        >>> ones = np.ones((1, 2))
        >>> condition_cross(np.zeros(2), np.ones(2), ones, ones, np.array([1.0])).mean
        array([0.5, 0.5])
    """
    call = _Call("condition_cross", mean)
    return _condition(
        call, variance, cross, None, rows, target, noise, factor, False, mean_out, variance_out
    )


def condition_dense(
    mean: Array,
    prior_covariance: Array,
    rows: Array,
    target: Array,
    noise: Array | float = 0.0,
    *,
    factor: bool = False,
    covariance: bool = True,
    mean_out: Array | None = None,
    variance_out: Array | None = None,
) -> Conditioned:
    r"""Condition a Gaussian with a dense covariance on linear rows.

    .. math:: m' = m + \Sigma G^T A^{-1} (b - G m), \quad
              \Sigma' = \Sigma - \Sigma G^T A^{-1} G \Sigma

    Args:
        mean: Prior mean :math:`m`, ``(*batch, n)``.
        prior_covariance: :math:`\Sigma`, symmetric, ``(n, n)`` or ``(*batch, n, n)``.
        rows: :math:`G`, ``(r, n)`` or ``(*batch, r, n)``.
        target: :math:`b`, ``(r,)`` or ``(*batch, r)``.
        noise: As in :func:`condition_diagonal`.
        factor: Return :math:`V` too.
        covariance: Return the dense posterior covariance.
        mean_out: Receives the posterior mean.
        variance_out: Receives the posterior variance.

    Returns:
        The posterior.

    Raises:
        TypeError: If an argument is not an array or has another dtype than ``mean``.
        ValueError: If a shape or stride does not fit, or an output overlaps an input.

    Example:
        >>> condition_dense(np.zeros(2), np.eye(2), np.ones((1, 2)), np.array([1.0])).mean
        array([0.5, 0.5])
    """
    call = _Call("condition_dense", mean)
    return _condition(
        call,
        None,
        None,
        prior_covariance,
        rows,
        target,
        noise,
        factor,
        covariance,
        mean_out,
        variance_out,
    )


def _integers(call: _Call, name: str, value: Array) -> NDArray[np.int64]:
    call._check(name, value, np.dtype(np.int64))
    if value.ndim != 1:
        raise ValueError(f"{call.op}: expected {name} to have 1 axis, got shape {value.shape}")
    return value


def condition_disjoint(
    mean: Array,
    variance: Array,
    weights: Array,
    order: NDArray[np.int64] | None,
    offsets: NDArray[np.int64],
    target: Array,
    noise: Array | float = 0.0,
    *,
    mean_out: Array | None = None,
    variance_out: Array | None = None,
) -> Conditioned:
    r"""Condition independent Gaussian variables on rows of which no two share a point.

    .. math:: d_k = R_k + \sum_j w_j^2 s_j, \qquad m'_i = m_i + w_i s_i e_k / d_k

    Args:
        mean: Prior mean, ``(*batch, n)``.
        variance: Prior variance, ``(n,)`` or ``(*batch, n)``, >= 0.
        weights: Weights of the listed points, ``(p,)`` or ``(*batch, p)``, ``p <= n``.
        order: Row ``k`` owns ``order[offsets[k]:offsets[k + 1]]``, ``(p,)`` int64, each point at
            most once; None stands for ``0 ... p - 1``.
        offsets: ``(r + 1,)`` int64, ascending from 0 to ``p``.
        target: ``(r,)`` or ``(*batch, r)``.
        noise: A number, or variances ``(r,)`` or ``(*batch, r)``.
        mean_out: Receives the posterior mean.
        variance_out: Receives the posterior variance.

    Returns:
        The posterior, ``factor`` with one entry per listed point.

    Raises:
        TypeError: If an argument is not an array or has a wrong dtype.
        ValueError: If a shape, stride or index does not fit, or a point is listed twice.

    Notes:
        Cost: ``O(batch n)``.

    Example:
        >>> offsets = np.array([0, 1, 2])
        >>> two = np.ones(2)
        >>> condition_disjoint(np.zeros(2), two, two, None, offsets, np.array([1.0, 2.0])).mean
        array([1., 2.])
    """
    call = _Call("condition_disjoint", mean)
    rank = _integers(call, "offsets", offsets).shape[0] - 1
    count = int(weights.shape[-1]) if isinstance(weights, np.ndarray) and weights.ndim else 0
    views = (
        call.read("variance", variance, call.n),
        call.read("weights", weights, count),
    )
    if order is not None and np.unique(_integers(call, "order", order)).size != order.size:
        raise ValueError(f"{call.op}: expected order to list each point once, got a repeated point")
    target_view = call.read("target", target, rank)
    noise_view = call.noise(noise, target, rank)
    out = Conditioned(
        mean=call.result("mean_out", mean_out),
        variance=call.result("variance_out", variance_out),
        factor=call.empty(count),
        covariance=None,
        cholesky=call.empty(rank, dtype=np.float64),
        multipliers=call.empty(rank, dtype=np.float64),
        info=call.empty(rank, dtype=np.int32),
    )
    flat = [call.flat(value) for value in out if value is not None]
    _C.condition_disjoint(call.mean, *views, order, offsets, target_view, noise_view, *flat)
    return out


def condition_banded(
    mean: Array,
    variance: Array,
    stencil: Array,
    target: Array,
    noise: Array | float,
    *,
    mean_out: Array | None = None,
    variance_out: Array | None = None,
) -> ConditionedBanded:
    r"""Condition independent Gaussian variables on noisy rows of three neighbouring points.

    .. math:: \Sigma' = (S^{-1} + D^T R^{-1} D)^{-1}, \qquad m' = m + S D^T \alpha

    Args:
        mean: Prior mean, ``(*batch, n)``, ``n >= 3``.
        variance: Prior variance, ``(n,)`` or ``(*batch, n)``, >= 0.
        stencil: Weights of row ``k`` on the points ``k, k + 1, k + 2``, ``(n - 2, 3)`` or
            ``(*batch, n - 2, 3)``.
        target: ``(n - 2,)`` or ``(*batch, n - 2)``.
        noise: A number > 0, or variances ``(n - 2,)`` or ``(*batch, n - 2)``.
        mean_out: Receives the posterior mean.
        variance_out: Receives the posterior variance.

    Returns:
        The posterior.

    Raises:
        TypeError: If an argument is not an array or has another dtype than ``mean``.
        ValueError: If a shape or stride does not fit, or an output overlaps an input.

    Notes:
        Cost: ``O(batch n)``.

    Example:
        >>> stencil = np.array([[1.0, -2.0, 1.0]])
        >>> mean = np.array([0.0, 3.0, 0.0])
        >>> condition_banded(mean, np.ones(3), stencil, np.zeros(1), 3.0).mean.round(3)
        array([0.667, 1.667, 0.667])
    """
    call = _Call("condition_banded", mean)
    n = call.n
    if n < 3:
        raise ValueError(f"{call.op}: expected mean to hold at least 3 points, got {n}")
    views = (
        call.read("variance", variance, n),
        call.read("stencil", stencil, n - 2, 3),
        call.read("target", target, n - 2),
        call.noise(noise, target, n - 2),
    )
    if views[3].ndim == 3 or bool((views[3] <= 0).any()):
        raise ValueError(f"{call.op}: expected noise to be variances > 0 per row")
    out = ConditionedBanded(
        mean=call.result("mean_out", mean_out),
        variance=call.result("variance_out", variance_out),
        band=call.empty(3, n, dtype=np.float64),
        multipliers=call.empty(n - 2, dtype=np.float64),
        info=call.empty(1, dtype=np.int32),
    )
    _C.condition_banded(call.mean, *views, *(call.flat(value) for value in out))
    return out
