# SPDX-License-Identifier: Apache-2.0
r"""The torch-free core on NumPy arrays: no copies, no gradients, one thread.

Every function reads its arguments in place and refuses an array that would need a copy. An argument
is given per item, ``(*batch, ...)`` with the batch axes of ``mean``, or without batch axes, shared
by all items. ``mean_out`` and ``variance_out`` receive the results where given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from physcon_ext import _C
from physcon_ext._balance_law import Edge as Edge
from physcon_ext._balance_law import Marched as Marched
from physcon_ext._balance_law import balance_law as balance_law


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


# ---- spectral convolutions -----------------------------------------------------------------------


def _field(op: str, name: str, value: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """Refuse what is no C-contiguous array of ``dtype``, or of float32 or float64."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{op}: expected {name} to be a numpy.ndarray, got {type(value).__name__}")
    expected = "float32 or float64" if dtype is None else str(dtype)
    if value.dtype not in ((np.float32, np.float64) if dtype is None else (dtype,)):
        raise TypeError(f"{op}: expected {name} to have dtype {expected}, got {value.dtype}")
    if not (value.flags.c_contiguous and value.flags.aligned):
        raise ValueError(
            f"{op}: expected {name} to be C-contiguous, got strides {value.strides} for shape "
            f"{value.shape}; pass numpy.ascontiguousarray({name})"
        )
    return value


def _axes_of(op: str, weight: Array) -> int:
    d = weight.ndim - 3
    if not 1 <= d <= 3 or weight.shape[-1] != 2:
        raise ValueError(
            f"{op}: expected weight to have shape (M_1, .., M_d, in, out, 2) with d = 1, 2 or 3, "
            f"got {weight.shape}"
        )
    return d


def _per_axis(
    op: str, name: str, values: Sequence[Array | None] | None, d: int, dtype: np.dtype[Any]
) -> list[Array | None]:
    found = [None] * d if values is None else list(values)
    if len(found) != d:
        raise ValueError(f"{op}: expected {name} to have {d} entries, got {len(found)}")
    return [
        None if v is None else _field(op, f"{name}[{axis}]", v, dtype)
        for axis, v in enumerate(found)
    ]


def _faces(
    op: str,
    values: Sequence[Array | None] | None,
    stencils: Sequence[Array | None] | None,
    d: int,
    batch: tuple[int, ...],
    dtype: np.dtype[Any],
) -> tuple[list[Array | None], list[Array | None]]:
    """Check faces; data get one batch axis, of size 1 if all items share them."""
    data = _per_axis(op, "values", values, d, dtype)
    rows = _per_axis(op, "stencils", stencils, d, np.dtype(np.float64))
    for axis, (value, row) in enumerate(zip(data, rows, strict=True)):
        if (value is None) != (row is None):
            raise ValueError(
                f"{op}: expected values[{axis}] and stencils[{axis}] to be given together"
            )
        if value is None:
            continue
        own = value.shape[: len(batch)]
        if value.ndim != len(batch) + 1 + d or own not in (batch, (1,) * len(batch)):
            raise ValueError(
                f"{op}: expected values[{axis}] to have shape (*batch, channels, 2, *others) with "
                f"batch {batch}, or 1 along any axis but that of the ends (all batch axes or "
                f"none), got {value.shape}"
            )
        count = int(np.prod(own, dtype=np.int64))
        data[axis] = value.reshape(count, *value.shape[len(batch) :])
    return data, rows


def _result(op: str, name: str, given: Array | None, shape: tuple[int, ...], like: Array) -> Array:
    if given is None:
        return np.empty(shape, dtype=like.dtype)
    _field(op, name, given, like.dtype)
    if given.shape != shape:
        raise ValueError(f"{op}: expected {name} to have shape {shape}, got {given.shape}")
    if not given.flags.writeable:
        raise ValueError(f"{op}: expected {name} to be writeable, got a read-only array")
    return given


def spectral_conv(
    x: Array,
    weight: Array,
    *,
    period: Sequence[float] | None = None,
    gains: Sequence[Array | None] | None = None,
    values: Sequence[Array | None] | None = None,
    stencils: Sequence[Array | None] | None = None,
    y_out: Array | None = None,
) -> Array:
    r"""Convolve fields with a kernel of few Fourier modes, correct and assign their boundary.

    Args:
        x: ``(*batch, in, N_1, .., N_d)``, ``d`` from 1 to 3, float32 or float64.
        weight: ``(M_1, .., M_d, in, out, 2)``, as `ops.spectral_conv` takes it.
        period: ``P >= N`` per axis in points, integer or not; ``N`` when not given.
        gains: Per axis what `correction_gain` returns, or None: the axis is not corrected.
        values: Per axis data of its faces, as in `assign_faces`.
        stencils: Their stencils.
        y_out: Receives the result.

    Returns:
        ``(*batch, out, N_1, .., N_d)``.

    Raises:
        TypeError: If an argument is not an array or has another dtype than ``x``.
        ValueError: If a shape or stride does not fit, or there are more modes than the period has.

    Notes:
        The numbers of `ops.boundary_spectral_conv`. The tables of the grid are made in each call;
        C and C++ programs keep them.

    Example:
        >>> mean = np.array([[[[1.0, 0.0]]]])  # the mean alone
        >>> spectral_conv(np.array([[1.0, 2.0, 3.0, 6.0]]), mean)
        array([[3., 3., 3., 3.]])
    """
    op = f"{_NAME}.spectral_conv"
    x = _field(op, "x", x)
    d = _axes_of(op, _field(op, "weight", weight, x.dtype))
    if x.ndim < d + 1 or x.shape[-d - 1] != weight.shape[-3]:
        raise ValueError(
            f"{op}: expected x to have shape (*batch, {weight.shape[-3]}, N_1..N_{d}) for weight "
            f"{weight.shape}, got {x.shape}"
        )
    batch, size = x.shape[: -d - 1], x.shape[-d:]
    periods = [float(p) for p in (size if period is None else period)]
    matrices = _per_axis(op, "gains", gains, d, np.dtype(np.float64))
    data, rows = _faces(op, values, stencils, d, batch, x.dtype)
    out = _result(op, "y_out", y_out, (*batch, weight.shape[-2], *size), x)
    if any(np.may_share_memory(out, a) for a in (x, weight)):
        raise ValueError(f"{op}: expected y_out to share no memory with an input")
    items = int(np.prod(batch, dtype=np.int64))
    flat = out.reshape(items, weight.shape[-2], *size)
    _C.spectral_conv(x, weight, periods, matrices, data, rows, flat)
    return out


def assign_faces(
    u: Array,
    values: Sequence[Array | None],
    stencils: Sequence[Array | None],
    *,
    u_out: Array | None = None,
) -> Array:
    r"""Assign the end points of the last axes: data plus a stencil of the points inwards.

    .. math:: u_{face} = g + \sum_j s_j u^{(j)}

    Args:
        u: ``(*batch, channels, N_1, .., N_d)``, ``d = len(values)`` from 1 to 3.
        values: ``g`` per axis, ``(*batch, channels, 2, *other sizes)`` or 1 along any axis but
            that of the ends (all batch axes or none), or None: the axis is left alone.
        stencils: Per axis ``(2, q + 1)`` float64: the weights of the old end value and of the
            ``j``-th point inwards, of the first and of the last end; or None.
        u_out: Receives the result; may be ``u``.

    Returns:
        The field. Faces of later axes own the corners; a stencil of zeros stores the bits of the
        data.

    Raises:
        TypeError: If an argument is not an array or has a wrong dtype.
        ValueError: If a shape or stride does not fit.

    Example:
        >>> ends, zero = np.array([[[1.0, 2.0]]]), np.zeros((2, 1))
        >>> assign_faces(np.array([[[5.0, 6.0, 7.0]]]), [ends], [zero])
        array([[[1., 6., 2.]]])
    """
    op = f"{_NAME}.assign_faces"
    u = _field(op, "u", u)
    d = len(values)
    if not 1 <= d <= 3 or u.ndim < d + 1:
        raise ValueError(
            f"{op}: expected 1 to 3 values and a field (*batch, channels, *sizes), got {d} values "
            f"and shape {u.shape}"
        )
    batch = u.shape[: -d - 1]
    data, rows = _faces(op, values, stencils, d, batch, u.dtype)
    out = _result(op, "u_out", u_out, u.shape, u)
    items = int(np.prod(batch, dtype=np.int64))
    _C.assign_faces(u, data, rows, out.reshape(items, *u.shape[len(batch) :]))
    return out


def pointwise(
    z: Array,
    x: Array | None = None,
    skip: Array | None = None,
    bias: Array | None = None,
    *,
    activation: Literal["gelu", "none"] = "gelu",
    values: Sequence[Array | None] | None = None,
    stencils: Sequence[Array | None] | None = None,
    y_out: Array | None = None,
) -> Array:
    r"""Add a matrix product of the channels and a bias to a field, assign faces, activate.

    .. math:: u = z + S^T x + b, \qquad y = u\, \Phi(u) \text{ or } u

    With ``z`` from `spectral_conv` this is a layer of a Fourier neural operator, with zeros the map
    that lifts its input or projects its output.

    Args:
        z: ``(batch, out, N_1, .., N_d)``, ``d`` from 1 to 3, float32 or float64.
        x: ``(batch, in, N_1, .., N_d)``, given together with ``skip``.
        skip: ``S``, ``(in, out)``.
        bias: ``b``, ``(out,)``.
        activation: ``"gelu"``, or ``"none"``: ``y = u``.
        values: Per axis data of faces of ``u``, as in `assign_faces`.
        stencils: Their stencils. A face whose stencil does not count its own value (column 0 is 0)
            is prescribed: the activation passes it by.
        y_out: Receives the result; may be ``z``.

    Returns:
        ``(batch, out, N_1, .., N_d)``, the numbers of `ops.fno_block`.

    Raises:
        TypeError: If an argument is not an array or has another dtype than ``z``.
        ValueError: If a shape or stride does not fit or the activation is unknown.

    Example:
        >>> x = np.array([[[1.0, -1.0]]])
        >>> pointwise(np.zeros((1, 2, 2)), x, np.array([[1.0, 2.0]]), activation="none")
        array([[[ 1., -1.],
                [ 2., -2.]]])
    """
    op = f"{_NAME}.pointwise"
    z = _field(op, "z", z)
    if not 3 <= z.ndim <= 5:
        raise ValueError(
            f"{op}: expected z to have shape (batch, out, N_1, .., N_d) with d = 1, 2 or 3, "
            f"got {z.shape}"
        )
    if activation not in ("gelu", "none"):
        raise ValueError(f"{op}: expected activation to be 'gelu' or 'none', got {activation!r}")
    (items, channels), size = z.shape[:2], z.shape[2:]
    if (x is None) != (skip is None):
        raise ValueError(f"{op}: expected x and skip to be given together")
    if x is not None and skip is not None:
        skip = _field(op, "skip", skip, z.dtype)
        if skip.ndim != 2 or skip.shape[1] != channels or skip.shape[0] < 1:
            raise ValueError(
                f"{op}: expected skip to have shape (in, {channels}), got {skip.shape}"
            )
        shape = (items, skip.shape[0], *size)
        if _field(op, "x", x, z.dtype).shape != shape:
            raise ValueError(f"{op}: expected x to have shape {shape}, got {x.shape}")
    if bias is not None and _field(op, "bias", bias, z.dtype).shape != (channels,):
        raise ValueError(f"{op}: expected bias to have shape {(channels,)}, got {bias.shape}")
    data, rows = _faces(op, values, stencils, len(size), (items,), z.dtype)
    out = _result(op, "y_out", y_out, z.shape, z)
    others = [a for a in (x, skip, bias, *data) if a is not None]
    if any(np.may_share_memory(out, a) for a in others) or (
        out is not z and np.may_share_memory(out, z)
    ):
        raise ValueError(
            f"{op}: expected y_out to share no memory with an input, or to be z itself"
        )
    _C.pointwise(z, x, skip, bias, activation == "gelu", data, rows, out)
    return out


def correction_gain(
    weight: Array,
    axis: int,
    *,
    size: Sequence[int],
    period: Sequence[float],
    ends: tuple[bool, bool] = (True, True),
    ridge: float = 0.1,
) -> NDArray[np.float64]:
    """Make the gains of one axis of `spectral_conv` from the weights.

    Args:
        weight: ``(M_1, .., M_d, in, out, 2)``.
        axis: The axis, ``0 <= axis < d``.
        size: Points per axis.
        period: Fourier period per axis in points.
        ends: Which ends are corrected.
        ridge: Regularisation, >= 0, see `boundary.correction_gain`.

    Returns:
        ``(Q, 2 (in + out), 2 in, 2)`` float64, ``Q`` the modes of the other axes; the last size is
        1 with one axis. The numbers of `boundary.correction_gain`.

    Raises:
        TypeError: If ``weight`` is not an array or has a wrong dtype.
        ValueError: If a number does not fit.

    Example:
        >>> correction_gain(np.ones((4, 3, 3, 2)), 0, size=[16], period=[20.0]).shape
        (1, 12, 6, 1)
    """
    op = f"{_NAME}.correction_gain"
    gain = _gain(op, weight, axis, size, period)
    place = (axis, [int(n) for n in size], [float(p) for p in period])
    _C.correction_gain(weight, *place, bool(ends[0]), bool(ends[1]), float(ridge), gain)
    return gain


def published_gain(
    weight: Array,
    axis: int = 0,
    *,
    size: Sequence[int],
    period: Sequence[float],
    ends: tuple[bool, bool] = (True, True),
    tolerance: float = 1e-7,
    modulus: bool = True,
    slip: float = 0.0,
) -> NDArray[np.float64]:
    """Make the gains of one axis of `spectral_conv` as the published program does.

    Args:
        weight: ``(M_1, .., M_d, channels, channels, 2)``.
        axis: The axis, ``0 <= axis < d``; the program corrects the first one.
        size: Points per axis.
        period: Fourier period per axis in points; ``size`` in the program.
        ends: Which ends are corrected.
        tolerance: Replaces pivots below it, >= 0.
        modulus: Compare the modulus; otherwise negative pivots count as small too.
        slip: 0, or 2 for the index slip of the program with several axes.

    Returns:
        As `correction_gain`. The numbers of `boundary.scalar_gain` and `ops.two_step_gain`.

    Raises:
        TypeError: If ``weight`` is not an array or has a wrong dtype.
        ValueError: If a number does not fit, or there are more channels in than out or fewer.

    Example:
        >>> published_gain(np.ones((4, 3, 3, 2)), size=[16], period=[16.0]).shape
        (1, 12, 6, 1)
    """
    op = f"{_NAME}.published_gain"
    gain = _gain(op, weight, axis, size, period)
    place = (axis, [int(n) for n in size], [float(p) for p in period])
    rule = (float(tolerance), bool(modulus), float(slip))
    _C.published_gain(weight, *place, bool(ends[0]), bool(ends[1]), *rule, gain)
    return gain


def _gain(
    op: str, weight: Array, axis: int, size: Sequence[int], period: Sequence[float]
) -> NDArray[np.float64]:
    """Check where the gains belong, and return memory for them."""
    d = _axes_of(op, _field(op, "weight", weight))
    if len(size) != d or len(period) != d or not 0 <= axis < d:
        raise ValueError(
            f"{op}: expected {d} sizes and periods and an axis below {d}, got {len(size)}, "
            f"{len(period)} and axis {axis}"
        )
    others = int(np.prod(weight.shape[:d], dtype=np.int64)) // max(weight.shape[axis], 1)
    c_in, c_out = weight.shape[-3:-1]
    return np.empty((others, 2 * (c_in + c_out), 2 * c_in, 1 if d == 1 else 2))
