# SPDX-License-Identifier: Apache-2.0
"""Spectral convolutions, with and without boundary conditions, as functions of their weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from physcon_ext import ops
from physcon_ext.boundary import published
from physcon_ext.boundary.conditions import (
    BoundaryConditions,
    BoundaryValues,
    check_conditions,
)
from physcon_ext.boundary.enforcement import (
    Corner,
    Grid,
    Rule,
    assign_rules,
    boundary_rules,
    enforce,
    one_pass,
    one_pass_by_rules,
)
from physcon_ext.boundary.gains import (
    Clamp,
    Pivot,
    Target,
    correction_gain,
    end_response,
    end_system,
    scalar_gain,
)
from physcon_ext.boundary.periods import Period, axis_periods
from physcon_ext.boundary.smooth import Kernel, Length, condition_on_boundary


Correction: TypeAlias = Literal["exact", "published", "overwrite", "smooth", "none"]
Gains: TypeAlias = "Sequence[Tensor | None]"

_PLAIN_AND_EXACT: tuple[Correction, Correction] = ("overwrite", "exact")

__all__ = [
    "CorrectionDiagnostics",
    "boundary_spectral_conv",
    "correction_diagnostics",
    "correction_gains",
    "spectral_conv",
]


def spectral_conv(x: Tensor, weight: Tensor, *, period: Period = None) -> Tensor:
    r"""Convolve a field with a kernel of few Fourier modes, mixing its channels.

    .. math:: X_k = \sum_n x_n e^{-2 \pi i k n / P}, \qquad Y_k = X_k W_k, \qquad
              y_n = \frac1P \sum_k c_k\, \mathrm{Re}\, Y_k e^{2 \pi i k n / P}

    Args:
        x: ``(*batch, C_in, N_1..N_d)``, ``d`` from 1 to 3, float32 or float64.
        weight: ``(M_1..M_d, C_in, C_out, 2)`` of the dtype of ``x``, real and imaginary part last.
            The last mode axis holds wavenumbers ``0..M_d - 1``, the others an even number of
            signed ones, ``0..m - 1, -m..-1``.
        period: Fourier period ``P >= N``: for all axes or per axis, a float as ratio to the length
            of the domain, an integer in grid points. By default ``N``: the layer of a Fourier
            neural operator, equal to ``rfftn``, truncation, mixing, ``irfftn``.

    Returns:
        ``(*batch, C_out, N_1..N_d)``.

    Raises:
        TypeError: If dtypes differ or are not supported.
        ValueError: If shapes do not fit, or there are more modes than the period resolves.

    Example:
        >>> weight = torch.zeros(2, 1, 1, 2)
        >>> weight[0, 0, 0, 0] = 1.0  # the mean alone
        >>> spectral_conv(torch.tensor([[[1.0, 2.0, 3.0, 6.0]]]), weight)
        tensor([[[3., 3., 3., 3.]]])
    """
    dims, sizes = _check(x, weight, "spectral_conv")
    if period is None:  # sizes may be symbols, and stay what they are
        return ops.spectral_conv(x, weight)
    periods = axis_periods(period, sizes, _modes(weight), [False] * dims, who="spectral_conv")
    return ops.spectral_conv(x, weight, period=periods)


def boundary_spectral_conv(
    x: Tensor,
    weight: Tensor,
    bc: BoundaryConditions,
    values: BoundaryValues | None = None,
    *,
    correction: Correction = "exact",
    period: Period = None,
    ridge: float = 0.1,
    target: Target = "joint",
    pivot: Pivot = "block",
    quirks: Collection[str] | None = None,
    length: Length = None,
    kernel: Kernel = "rbf",
    grid: Grid = None,
    corner: Corner = "priority",
    assign: bool = True,
    gains: Gains | None = None,
) -> Tensor:
    r"""Convolve a field so that the result satisfies boundary conditions.

    .. math:: y = K(x + \delta_0 e_0 + \delta_N e_{N-1}), \text{ then the ends of } y
              \text{ are assigned}

    where the shifts :math:`\delta` of the end values of the input make the ends of the output
    independent of everything but the ends of the input (`boundary.gains`).

    Args:
        x: ``(batch, C_in, N_1..N_d)``, both ends of every axis included. Further axes without
            conditions, such as time, follow the space axes.
        weight: As in `spectral_conv`.
        bc: The conditions.
        values: Data by edge, see `boundary.boundary_values`, in the unit of ``y``.
        correction: ``"exact"``: block elimination jointly over both ends, one block per mode of
            the other axes, axis after axis. ``"published"``: the formulas of the published
            program. ``"overwrite"``: the plain convolution, its ends assigned. ``"smooth"``: the
            plain convolution, conditioned on its boundary with a smooth covariance
            (`boundary.condition_on_boundary`). ``"none"``: the plain convolution.
        period: As in `spectral_conv`; by default `boundary.extended_period` for axes that are not
            periodic, and ``N`` for ``"published"`` and ``"none"``. A periodic axis is transformed
            without its last point, which repeats the first, with period ``N - 1``, except for
            ``"published"``.
        ridge: Regularisation of the elimination, see `boundary.correction_gain`.
        target: What the elimination leaves: ``"joint"``, or ``"left"`` or ``"right"`` end first.
        pivot: ``"block"``, or ``"scalar"``: one pivot for all channels, as published but with
            a smooth clamp that keeps its sign.
        quirks: For ``"published"``: names of `boundary.published.QUIRKS`; by default all but
            ``"index_slip"``.
        length: For ``"smooth"``, see `boundary.condition_on_boundary`.
        kernel: For ``"smooth"``.
        grid: Points along the axes, for Neumann and Robin conditions; the convolution itself takes
            the points as equally spaced.
        corner: As in `boundary.enforce`.
        assign: Assign the end points. Without it ``"exact"`` leaves what the elimination leaves.
        gains: Gains from `correction_gains` for these weights and sizes, to make them once.

    Returns:
        ``(batch, C_out, N_1..N_d)``.

    Raises:
        TypeError: If dtypes differ or are not supported.
        ValueError: If shapes, values or options do not fit, or the conditions have no published
            program.

    Notes:
        Exactness: that of `boundary.enforce`. The gains are differentiated through; they are made
        in float64 from the weights without reading a value on the host.

    Example:
        >>> from physcon_ext.boundary import BoundaryConditions, Dirichlet
        >>> bc = BoundaryConditions(left=Dirichlet(2.0))
        >>> boundary_spectral_conv(torch.rand(1, 3, 16), torch.rand(4, 3, 3, 2), bc)[0, :, 0]
        tensor([2., 2., 2.])
    """
    who = "boundary_spectral_conv"
    check_conditions(bc, who)
    dims, sizes = _check(x, weight, who)
    if x.ndim != dims + 2:
        raise ValueError(
            f"{who}: expected x to have shape (batch, {weight.shape[-3]}, N_1..N_{dims}) for "
            f"weight {tuple(weight.shape)}, got {tuple(x.shape)}; join or add batch axes"
        )
    if correction not in get_args(Correction):
        raise ValueError(
            f"{who}: expected correction to be one of {get_args(Correction)}, got {correction!r}"
        )
    extended = correction not in ("published", "none")
    native = [extended and bc.is_periodic(axis) for axis in range(dims)]
    inner = [n - 1 if whole else n for n, whole in zip(sizes, native, strict=True)]
    periods = axis_periods(
        period, inner, _modes(weight), [extended and not whole for whole in native], who=who
    )
    as_published = correction == "published"
    chosen = published.check_published(bc, dims, quirks) if as_published else set()
    if gains is None and as_published:
        gains = published.published_gains(weight, bc, sizes=inner, period=periods, quirks=chosen)
    elif gains is None:
        gains = correction_gains(
            weight,
            bc,
            sizes,
            correction=correction,
            period=period,
            ridge=ridge,
            target=target,
            pivot=pivot,
        )
    field = x
    for axis, whole in enumerate(native):
        field = field.narrow(x.ndim - dims + axis, 0, inner[axis]) if whole else field
    faces = None
    rules: dict[str, Rule] = {}
    if assign and not any(native):
        like = x.new_empty(1).expand(*x.shape[: x.ndim - dims - 1], weight.shape[-2], *sizes)
        if as_published:
            rules = published.published_rules(boundary_rules(bc, sizes, grid, who=who), chosen)
            faces = one_pass_by_rules(like, bc, values, rules, order=bc.edges)
        elif correction in ("exact", "overwrite"):
            faces = one_pass(like, bc, values, grid=grid, corner=corner)
    if faces is not None:
        face_values, stencils = faces
        y = ops.boundary_spectral_conv(
            field, weight, gains, period=periods, values=face_values, stencils=stencils
        )
        return published.after_assignment(y, bc, dims, chosen, layer=True) if as_published else y
    if all(gain is None for gain in gains):
        y = ops.spectral_conv(field, weight, period=periods)
    else:
        y = ops.boundary_spectral_conv(field, weight, gains, period=periods)
    for axis, whole in enumerate(native):
        at = x.ndim - dims + axis
        y = torch.cat([y, y.narrow(at, 0, 1)], at) if whole else y
    if correction == "none" or not assign:
        return y
    if correction == "smooth":
        return condition_on_boundary(
            y, bc, values, length=length, kernel=kernel, grid=grid, corner=corner
        )
    if as_published:
        y = assign_rules(y, bc, values, rules, order=bc.edges)
        return published.after_assignment(y, bc, dims, chosen, layer=True)
    return enforce(y, bc, values, grid=grid, corner=corner)


def correction_gains(
    weight: Tensor,
    bc: BoundaryConditions,
    sizes: Sequence[int],
    *,
    correction: Correction = "exact",
    period: Period = None,
    ridge: float = 0.1,
    target: Target = "joint",
    pivot: Pivot = "block",
    quirks: Collection[str] | None = None,
    skip: Tensor | None = None,
) -> list[Tensor | None]:
    """Make the gains of all axes from the weights.

    Args:
        weight: As in `boundary_spectral_conv`.
        bc: As in `boundary_spectral_conv`.
        sizes: Points per axis of the field, both ends included.
        correction: As in `boundary_spectral_conv`.
        period: As in `boundary_spectral_conv`.
        ridge: As in `boundary_spectral_conv`.
        target: As in `boundary_spectral_conv`.
        pivot: As in `boundary_spectral_conv`.
        quirks: As in `boundary_spectral_conv`.
        skip: ``(C_in, C_out)``, eliminated together with the convolution, see
            `boundary.correction_gain`.

    Returns:
        One float64 tensor ``(Q, 2 (C_in + C_out), 2 C_in, 2)`` per axis (with 1 as last size if
        there is one axis), None for axes that are not corrected. They depend on the weights, the
        sizes and the period.

    Raises:
        TypeError: If ``bc`` are no conditions or a period is no number.
        ValueError: If sizes, modes, the period or an option do not fit.

    Example:
        >>> from physcon_ext.boundary import BoundaryConditions, Dirichlet
        >>> bc = BoundaryConditions(left=Dirichlet(2.0))
        >>> correction_gains(torch.rand(4, 3, 3, 2), bc, [16])[0].shape
        torch.Size([1, 12, 6, 1])
    """
    who, dims = "correction_gains", weight.ndim - 3
    check_conditions(bc, who)
    if len(sizes) != dims:
        raise ValueError(
            f"{who}: expected sizes to have {dims} entries for weight {tuple(weight.shape)}, "
            f"got {tuple(sizes)}"
        )
    none: list[Tensor | None] = [None] * dims
    if correction not in ("exact", "published"):
        return none
    exact = correction == "exact"
    native = [exact and bc.is_periodic(axis) for axis in range(dims)]
    inner = [n - 1 if whole else n for n, whole in zip(sizes, native, strict=True)]
    periods = axis_periods(
        period, inner, _modes(weight), [exact and not whole for whole in native], who=who
    )
    if not exact:
        chosen = published.check_published(bc, dims, quirks)
        return published.published_gains(weight, bc, sizes=inner, period=periods, quirks=chosen)
    check_elimination(ridge, target, pivot, who)
    gains = none
    for axis in range(dims):
        low, high = (condition is not None for condition in bc.axis(axis))
        if native[axis] or not (low or high):
            continue
        response = end_response(weight, axis, sizes=inner, period=periods)
        if pivot == "scalar":
            clamp = Clamp(
                ridge * response.same[0, :, 0].abs().square().mean().sqrt(), keep_sign=True
            )
            gains[axis] = scalar_gain(response, ends=(low, high), clamp=clamp)
        else:
            gains[axis] = correction_gain(
                response, ends=(low, high), target=target, ridge=ridge, skip=skip
            )
    return gains


def check_elimination(ridge: float, target: Target, pivot: Pivot, who: str) -> None:
    """Raise unless these are options of the ``"exact"`` correction."""
    if not 0.0 <= ridge < math.inf:
        raise ValueError(f"{who}: expected ridge to be >= 0 and finite, got {ridge}")
    if target not in get_args(Target) or pivot not in get_args(Pivot):
        raise ValueError(
            f"{who}: expected target among {get_args(Target)} and pivot among {get_args(Pivot)}, "
            f"got {target!r} and {pivot!r}"
        )


@dataclass(frozen=True)
class CorrectionDiagnostics:
    """What the elimination has to work with, and how much it changes.

    Attributes:
        condition: Per axis the condition numbers of the end systems ``S``, ``(Q,)`` float64, None
            for axes that are not corrected. Large ones ask for a longer period or more ridge.
        change: Norm of what the correction adds over the norm of the plain convolution, per item,
            before ends are assigned.
    """

    condition: tuple[Tensor | None, ...]
    change: Tensor


def correction_diagnostics(
    x: Tensor, weight: Tensor, bc: BoundaryConditions, *, period: Period = None, ridge: float = 0.1
) -> CorrectionDiagnostics:
    """Measure the ``"exact"`` correction of a convolution.

    Args:
        x: As in `boundary_spectral_conv`.
        weight: As in `boundary_spectral_conv`.
        bc: As in `boundary_spectral_conv`.
        period: As in `boundary_spectral_conv`.
        ridge: As in `boundary_spectral_conv`.

    Returns:
        `CorrectionDiagnostics`, without gradients.

    Raises:
        TypeError, ValueError: As `boundary_spectral_conv`.

    Example:
        >>> from physcon_ext.boundary import BoundaryConditions, Dirichlet
        >>> bc = BoundaryConditions(left=Dirichlet(), right=Dirichlet())
        >>> weight = torch.eye(2)[..., None] * torch.tensor([1.0, 0.0])
        >>> found = correction_diagnostics(torch.rand(1, 2, 64), weight.expand(8, 2, 2, 2), bc)
        >>> bool(found.condition[0] < 2)
        True
    """
    check_conditions(bc, "correction_diagnostics")
    dims, sizes = _check(x, weight, "correction_diagnostics")
    native = [bc.is_periodic(axis) for axis in range(dims)]
    inner = [n - 1 if whole else n for n, whole in zip(sizes, native, strict=True)]
    extended = [not whole for whole in native]
    periods = axis_periods(period, inner, _modes(weight), extended, who="correction_diagnostics")
    with torch.no_grad():
        condition: list[Tensor | None] = []
        for axis in range(dims):
            low, high = (c is not None and not native[axis] for c in bc.axis(axis))
            system = None
            if low or high:
                found = end_response(weight, axis, sizes=inner, period=periods)
                system = end_system(found) if low and high else found.same
            condition.append(None if system is None else torch.linalg.cond(system))
        plain, corrected = (
            boundary_spectral_conv(
                x, weight, bc, correction=kind, period=period, ridge=ridge, assign=False
            ).double()
            for kind in _PLAIN_AND_EXACT
        )
        own = tuple(range(x.ndim - dims - 1, x.ndim))
        change = (corrected - plain).square().sum(own) / plain.square().sum(own)
    return CorrectionDiagnostics(tuple(condition), change.sqrt())


def _modes(weight: Tensor) -> list[int]:
    """Non-negative wavenumbers per axis."""
    signed = [m // 2 for m in weight.shape[:-4]]
    return [*signed, weight.shape[-4]]


def _check(x: Tensor, weight: Tensor, who: str) -> tuple[int, list[int]]:
    for name, value in (("x", x), ("weight", weight)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{who}: expected {name} to be a torch.Tensor, got {type(value).__name__}"
            )
        if value.layout != torch.strided:
            raise TypeError(f"{who}: expected {name} to be a dense tensor, got {value.layout}")
    dims = weight.ndim - 3
    if not 1 <= dims <= 3 or weight.shape[-1] != 2:
        raise ValueError(
            f"{who}: expected weight to have shape (M_1..M_d, C_in, C_out, 2) with d = 1, 2 or 3, "
            f"got {tuple(weight.shape)}; torch.view_as_real makes it of complex weights"
        )
    if x.ndim <= dims or x.shape[x.ndim - dims - 1] != weight.shape[-3]:
        raise ValueError(
            f"{who}: expected x to have shape (*batch, {weight.shape[-3]}, N_1..N_{dims}) for "
            f"weight {tuple(weight.shape)}, got {tuple(x.shape)}"
        )
    return dims, list(x.shape[x.ndim - dims :])
