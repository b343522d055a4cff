# SPDX-License-Identifier: Apache-2.0
"""Conditioning fields on constraints: `conserve`, `project`, `mixture`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from physcon_ext import ops
from physcon_ext.checks import check_dtype, check_finite, common_shape, first_index, fmt
from physcon_ext.constraints.linear import Group, LinearConstraint
from physcon_ext.constraints.rows import BandedRows, DisjointRows
from physcon_ext.covariance import (
    ConditionedBanded,
    ConditionedDisjoint,
    ConditionedRows,
    Covariance,
    Dense,
    Diagonal,
    GaussianField,
    LowRankPlusDiagonal,
    Mixture,
)
from physcon_ext.covariance.field import Origin
from physcon_ext.reference.row_system import RowStatus
from physcon_ext.tensor_map import Expand, Select


OnInfeasible = Literal["error", "project"]


def conserve(
    field: GaussianField,
    law: LinearConstraint,
    *,
    on_infeasible: OnInfeasible = "error",
    validate: bool = True,
) -> GaussianField:
    r"""Condition a field on a constraint.

    .. math:: m' = m - \Sigma G^T A^{-1} (G m - b), \quad
              \Sigma' = \Sigma - \Sigma G^T A^{-1} G \Sigma, \quad A = G \Sigma G^T + R

    Args:
        field: What the model predicts.
        law: What is known. Its batch axes broadcast against those of the field.
        on_infeasible: For a row without noise whose cells have no variance at all and whose
            residual is not zero: ``"error"``, or ``"project"``, which moves the mean of its
            cells as if they had equal variance (the posterior variance stays 0).
        validate: Raise for rows that cannot be met and for values that are not finite. This reads
            the status of every row. With ``False`` such rows are dropped, items that are not
            finite come out as NaN, and ``diagnostics().status`` tells.

    Returns:
        The conditioned field; its covariance is structured, ``prior`` and ``law`` are kept.
        A field that has been conditioned already is conditioned on both laws together:
        ``conserve(conserve(f, a), b)`` is ``conserve(f, a & b)``.

    Raises:
        TypeError: If an argument has the wrong type, or dtypes differ.
        ValueError: If shapes do not fit, rows contradict each other (named, with the residual
            and the tolerance), or a row is infeasible.

    Notes:
        Conservation: ``|G m' - b| <= 8 eps (|G||m'| + |b|)`` row by row for rows without noise.
        Redundant rows that agree are accepted. Cost: O(n) for one row, for disjoint rows and for
        banded rows with independent cells; O(n r^2) for r rows; nothing of size ``n x n`` unless
        the prior is dense.

    Example:
        >>> field = GaussianField(torch.zeros(4), torch.tensor([1.0, 1.0, 2.0, 0.0]))
        >>> conserve(field, LinearConstraint(torch.ones(4), 2.0)).mean
        tensor([0.5000, 0.5000, 1.0000, 0.0000])
    """
    _check_arguments(field, law, on_infeasible)
    if field.prior is not None and field.law is not None:
        return conserve(
            field.prior, field.law & law, on_infeasible=on_infeasible, validate=validate
        )
    batch = _common_batch(field, law)
    prior, whole = field.expand(batch), law.map(Expand(batch))
    state = _State(prior.mean, prior.structure)
    positions = _positions(whole)
    status = torch.zeros(*batch, law.n_rows, dtype=torch.int32, device=field.device)
    chi2 = torch.zeros(batch, dtype=torch.float64, device=field.device)
    for groups in _stages(prior.structure, whole):
        part = LinearConstraint.from_groups(groups)
        place = [k for g in groups for k in positions[id(g)]]
        update = _update(state, part)
        if on_infeasible == "project":
            update = _project_infeasible(state, part, update)
        if validate:
            _check_status(state, part, update, law.names, place)
        innovation = part.target.double() - _applied(part, state.mean)
        chi2 = chi2 + (update.multipliers * innovation).sum(-1)
        status[..., place] = update.status
        state = update.state
    return GaussianField.from_structure(
        state.mean, state.structure, law=whole, origin=Origin(prior, chi2.detach(), status)
    )


def project(mean: Tensor, law: LinearConstraint, *, validate: bool = True) -> Tensor:
    r"""Move a mean onto a constraint by least squares (known as HardC).

    .. math:: m' = m - G^T (G G^T)^{-1} (G m - b)

    Args:
        mean: ``(*batch, n)``.
        law: The constraint; the noise of its rows is ignored, all hold exactly.
        validate: As in `conserve`.

    Returns:
        The mean, ``(*batch, n)``. The correction is spread over all cells of a row, whatever
        their uncertainty, and there is no posterior variance: for that use `conserve`.

    Example:
        >>> project(torch.zeros(4), LinearConstraint(torch.ones(4), 2.0))
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """
    check_dtype("project", "mean", mean)
    if validate:
        check_finite("project", "mean", mean)
    field = GaussianField(mean, torch.ones_like(mean), validate=False)
    return conserve(field, law.exact(), validate=validate).mean


def mixture(fields: GaussianField | Sequence[GaussianField], dim: int = 0) -> GaussianField:
    r"""Merge equally likely fields into one by the law of total covariance.

    .. math:: m = \frac1S \sum_s m_s, \qquad
              \Sigma = \frac1S \sum_s \Sigma_s + \frac1{S-1} \sum_s (m_s - m)(m_s - m)^T

    Args:
        fields: A field with the draws along a batch axis, or a list of fields.
        dim: The batch axis of the draws (not used for a list).

    Returns:
        One field without that axis. Independent cells give a diagonal plus ``S`` directions; other
        components are kept as they are. For one draw the second term is 0. Rows that hold exactly
        in all draws hold in the result and in its samples.

    Raises:
        TypeError: If an argument is not a field.
        ValueError: If there is no field, fields do not match, or ``dim`` is not a batch axis.

    Example:
        >>> draws = GaussianField(torch.tensor([[0.0], [2.0]]), torch.ones(2, 1))
        >>> mixture(draws).variance
        tensor([3.])
    """
    if isinstance(fields, GaussianField):
        return _mixture_along(fields, dim)
    for k, field in enumerate(fields):
        if not isinstance(field, GaussianField):
            raise TypeError(
                f"mixture: expected fields to be GaussianField objects, "
                f"got {type(field).__name__} at index {k}"
            )
    if len(fields) == 0:
        raise ValueError("mixture: expected at least one field, got 0")
    kinds = {(f.n, f.dtype, f.device) for f in fields}
    if len(kinds) > 1:
        raise ValueError(
            "mixture: expected fields with the same cells, dtype and device, got "
            + " and ".join(f"n={n} {dtype} on {device}" for n, dtype, device in kinds)
        )
    batch = common_shape(*(f.batch_shape for f in fields))
    if batch is None:
        shapes = ", ".join(str(tuple(f.batch_shape)) for f in fields)
        raise ValueError(f"mixture: expected batch shapes to broadcast, got {shapes}")
    whole = [f.expand(batch) for f in fields]
    first = fields[0].law
    shared = whole[0].law if all(f.law is first for f in fields) else None
    return _mix(torch.stack([f.mean for f in whole]), [f.structure for f in whole], shared)


@dataclass(frozen=True)
class _State:
    """Mean and covariance between two stages of conditioning."""

    mean: Tensor
    structure: Covariance


@dataclass(frozen=True)
class _Update:
    """What one stage returns."""

    state: _State
    status: Tensor
    multipliers: Tensor


def _stages(structure: Covariance, law: LinearConstraint) -> list[list[Group]]:
    """Split the rows: banded rows first, by themselves, where the O(n) update takes them.

    Their noise is positive, so they cannot be redundant, and conditioning in two stages is
    conditioning on the stack. All other rows go together, so that redundancy is seen.
    """
    groups = list(law.groups)
    banded = [g for g in groups if isinstance(g.rows, BandedRows)]
    if isinstance(structure, Diagonal) and banded:
        rest = [g for g in groups if g is not banded[0]]
        return [[banded[0]], rest] if rest else [[banded[0]]]
    return [groups]


def _positions(law: LinearConstraint) -> dict[int, range]:
    """Return the row numbers of every group."""
    positions, start = {}, 0
    for group in law.groups:
        positions[id(group)] = range(start, start + group.rows.n_rows)
        start += group.rows.n_rows
    return positions


def _update(state: _State, law: LinearConstraint) -> _Update:
    """Condition on the rows with the op that fits the prior and the layout of the rows."""
    rows, prior = law.groups[0].rows, state.structure
    if len(law.groups) == 1 and isinstance(prior, Diagonal):
        if isinstance(rows, BandedRows):
            return _update_banded(state.mean, prior, rows, law)
        if isinstance(rows, DisjointRows):
            return _update_disjoint(state.mean, prior, rows, law)
    return _update_rows(state.mean, prior, law)


def _update_rows(mean: Tensor, prior: Covariance, law: LinearConstraint) -> _Update:
    rest = (law.rows, law.target, law.noise)
    if isinstance(prior, Diagonal):
        result = ops.condition_diagonal(mean, prior.variance, *rest)
    elif isinstance(prior, Dense):
        result = ops.condition_dense(mean, prior.matrix, *rest, covariance=False)
    else:
        result = ops.condition_cross(mean, prior.variance, prior.cross(law.rows), *rest)
    used = result.info == RowStatus.USED
    structure = ConditionedRows(prior, law.rows, law.noise, used, result.variance)
    return _Update(_State(result.mean, structure), result.info, result.multipliers)


def _update_disjoint(
    mean: Tensor, prior: Diagonal, rows: DisjointRows, law: LinearConstraint
) -> _Update:
    result = ops.condition_disjoint(
        mean, prior.variance, rows.values, rows.order, rows.offsets, law.target, law.noise
    )
    used = result.info == RowStatus.USED
    structure = ConditionedDisjoint(
        prior, rows.values, rows.cells, rows.owner, law.noise, used, result.variance
    )
    return _Update(_State(result.mean, structure), result.info, result.multipliers)


def _update_banded(
    mean: Tensor, prior: Diagonal, rows: BandedRows, law: LinearConstraint
) -> _Update:
    result = ops.condition_banded(mean, prior.variance, rows.stencil, law.target, law.noise)
    structure = ConditionedBanded(prior, rows.stencil, law.noise, result.variance, result.band)
    status = result.info.expand(*result.info.shape[:-1], rows.n_rows)
    return _Update(_State(result.mean, structure), status, result.multipliers)


def _project_infeasible(state: _State, law: LinearConstraint, update: _Update) -> _Update:
    """Move the mean of the infeasible rows' cells by least squares, then condition again.

    Of infeasible rows that contradict each other the later ones are still not met: the status of
    the second pass says so.
    """
    stuck = update.status == RowStatus.INFEASIBLE
    rows = law.rows * stuck[..., None]
    cells = (rows != 0).any(-2).to(state.mean.dtype)
    target = torch.where(stuck, law.target, torch.zeros_like(law.target))
    moved = ops.condition_diagonal(state.mean, cells, rows, target, torch.zeros_like(target))
    return _update(_State(moved.mean, state.structure), law)


def _check_arguments(field: GaussianField, law: LinearConstraint, on_infeasible: str) -> None:
    for name, value, kind in (("field", field, GaussianField), ("law", law, LinearConstraint)):
        if not isinstance(value, kind):
            raise TypeError(
                f"conserve: expected {name} to be a {kind.__name__}, got {type(value).__name__}"
            )
    if on_infeasible not in get_args(OnInfeasible):
        raise ValueError(
            f"conserve: expected on_infeasible to be 'error' or 'project', got {on_infeasible!r}"
        )
    if law.n_cells != field.n:
        raise ValueError(
            f"conserve: expected field and law to have the same number of cells, "
            f"got {field.n} and {law.n_cells}"
        )
    if law.dtype != field.dtype:
        raise TypeError(
            f"conserve: expected field and law to have the same dtype, got {field.dtype} and "
            f"{law.dtype}; use law.to(dtype=field.dtype)"
        )
    if law.device != field.device:
        raise ValueError(
            f"conserve: expected field and law to be on the same device, got {field.device} and "
            f"{law.device}; use law.to(field.device)"
        )


def _common_batch(field: GaussianField, law: LinearConstraint) -> torch.Size:
    batch = common_shape(field.batch_shape, law.batch_shape)
    if batch is None:
        raise ValueError(
            f"conserve: expected the batch axes of field and law to broadcast, "
            f"got {tuple(field.batch_shape)} and {tuple(law.batch_shape)}"
        )
    return batch


def _applied(law: LinearConstraint, mean: Tensor) -> Tensor:
    return law.residual(mean) + law.target.double()


def _check_status(
    state: _State, law: LinearConstraint, update: _Update, names: Sequence[str], place: list[int]
) -> None:
    """Raise for the first row that could not be met, with names, residual and tolerance."""
    status = update.status
    bad = (
        (status == RowStatus.INCONSISTENT)
        | (status == RowStatus.INFEASIBLE)
        | (status == RowStatus.NON_FINITE)
    )
    if not bool(bad.any()):
        return
    index = first_index(bad)
    item, k = index[:-1], index[-1]
    where = f" at batch index {item if len(item) > 1 else item[0]}" if item else ""
    if int(status[index]) == RowStatus.NON_FINITE:
        raise ValueError(
            f"conserve: expected mean, variance, G, b and noise_variance to be finite, got NaN or "
            f"infinity{where}"
        )
    residual = -float(law.residual(state.mean)[index])
    scale = law.magnitude(state.mean)[item]
    eps = 64 * torch.finfo(state.mean.dtype).eps
    label = f"row '{names[place[k]]}' (index {place[k]}){where}"
    if int(status[index]) == RowStatus.INFEASIBLE or not isinstance(
        update.state.structure, ConditionedRows
    ):
        raise ValueError(
            f"conserve: {label} cannot be met: its cells have zero variance and it has zero noise, "
            f"residual {fmt(residual)}, tolerance {fmt(eps * scale[k])}; give the row noise, the "
            f"cells variance, or use on_infeasible='project'"
        )
    a = update.state.structure.row_matrix[item]
    used = status[item] == RowStatus.USED
    earlier = [j for j in range(k) if bool(used[j])]
    share = torch.linalg.lstsq(a[earlier][:, earlier], a[earlier, k][:, None]).solution[:, 0]
    weight = share.abs() * a[earlier, earlier].sqrt()
    partners = [earlier[int(j)] for j in (weight > 1e-6 * a[k, k].sqrt()).nonzero()]
    others = -law.residual(state.mean)[item][earlier]
    contradiction = residual - float(share @ others)
    tolerance = eps * (scale[k] + share.abs() @ scale[earlier])
    listed = ", ".join(f"'{names[place[j]]}'" for j in partners[:8])
    more = f" and {len(partners) - 8} more" if len(partners) > 8 else ""
    raise ValueError(
        f"conserve: {label} contradicts row{'s' * (len(partners) != 1)} {listed}{more}: "
        f"residual {fmt(contradiction)}, tolerance {fmt(tolerance)}"
    )


def _mixture_along(field: GaussianField, dim: int) -> GaussianField:
    rank = len(field.batch_shape)
    if not -rank <= dim < rank:
        raise ValueError(
            f"mixture: expected dim to be a batch axis of a field with batch shape "
            f"{tuple(field.batch_shape)}, got {dim}"
        )
    axis = rank - dim % rank  # counted from the right, 1 is the last batch axis
    means = field.mean.movedim(dim % rank, 0)
    if means.shape[0] == 0:
        raise ValueError(f"mixture: expected at least one draw along dim {dim}, got 0")
    draws = [field.structure.select(axis, s) for s in range(means.shape[0])]
    law = field.law.map(Select(axis, 0)) if field.law and not _varies(field.law, axis) else None
    return _mix(means, draws, law)


def _varies(law: LinearConstraint, axis: int) -> bool:
    """Whether rows, targets or noise differ along a batch axis: by their strides and sizes."""
    tensors = []
    for group in law.groups:
        tensors.append((group.rows.weights, group.rows.weights.ndim - len(group.rows.batch_shape)))
        tensors += [(group.target, 1), (group.noise, 2 if group.matrix else 1)]
    places = [(t, t.ndim - k - axis) for t, k in tensors]
    return any(p >= 0 and t.shape[p] > 1 and t.stride(p) != 0 for t, p in places)


def _mix(
    means: Tensor, structures: Sequence[Covariance], law: LinearConstraint | None
) -> GaussianField:
    """Merge draws along the first axis; the law, if given, holds in every draw."""
    count = means.shape[0]
    mean = means.double().mean(0)
    spread = (means.double() - mean) / max(count - 1, 1) ** 0.5
    mean, between = mean.to(means.dtype), spread.movedim(0, -2).to(means.dtype)
    if all(isinstance(c, Diagonal) for c in structures):
        variance = torch.stack([c.variance for c in structures]).mean(0)
        return GaussianField.from_structure(mean, LowRankPlusDiagonal(variance, between))
    rows = None
    if law is not None and bool(law.hard.any()):
        rows = (law.rows * law.hard[..., None]).expand(*mean.shape[:-1], -1, -1)
    else:
        law = None
    merged = Mixture(tuple(structures), between, rows)
    return GaussianField.from_structure(mean, merged, law=law)
