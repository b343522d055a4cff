# SPDX-License-Identifier: Apache-2.0
"""One row per block of a partition: totals of blocks, or of every time of a space-time field."""

from collections.abc import Sequence

import torch
from torch import Tensor

from physcon_ext.checks import check_dtype, check_finite, fmt
from physcon_ext.constraints.linear import LinearConstraint, make_group
from physcon_ext.constraints.rows import make_disjoint


def blocks(
    labels: Tensor,
    b: Tensor,
    *,
    volumes: Tensor | None = None,
    noise_variance: Tensor | float = 0.0,
    names: str | Sequence[str] | None = None,
    validate: bool = True,
) -> LinearConstraint:
    r"""The total of every block is known: :math:`\sum_{i \in k} V_i u_i = b_k`.

    Args:
        labels: Block of every cell, integers ``0 ... r - 1``, of any shape (flattened); a
            negative label leaves the cell out.
        b: ``(*batch, r)``, one total per block; its last axis says how many blocks there are.
        volumes: Volume of every cell, ``(n,)``, ``(*batch, n)`` or the shape of ``labels``;
            1 if not given. For point values use `quadrature` weights.
        noise_variance: As in `LinearConstraint`, per row.
        names: As in `LinearConstraint`; ``"block"`` if not given.
        validate: Check values.

    Returns:
        A constraint with disjoint rows: memory and update are O(n) whatever the number of blocks.

    Raises:
        TypeError: If labels are not integers, or dtypes differ.
        ValueError: If shapes do not fit, a label is too large, a block is empty, or a value is
            not finite.

    Example:
        >>> law = blocks(torch.tensor([0, 0, 1]), torch.tensor([1.0, 5.0]))
        >>> law.residual(torch.tensor([1.0, 1.0, 4.0]))
        tensor([ 1., -1.], dtype=torch.float64)
    """
    who = "blocks"
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        got = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"{who}: expected labels to be an integer tensor, got {got}")
    flat = labels.flatten()
    if volumes is None:
        check_dtype(who, "b", b)
        values = torch.ones_like(flat, dtype=b.dtype)
    else:
        check_dtype(who, "volumes", volumes)
        check_dtype(who, "b", b, like=volumes, like_name="volumes")
        values = volumes.flatten() if volumes.shape == labels.shape else volumes
    if b.ndim == 0:
        raise ValueError(f"{who}: expected b to have one value per block, got shape ()")
    if values.ndim == 0 or values.shape[-1] != flat.shape[0]:
        raise ValueError(
            f"{who}: expected volumes and labels to have the same number of cells, "
            f"got shapes {tuple(values.shape)} and {tuple(labels.shape)}"
        )
    r = b.shape[-1]
    listed = (flat >= 0).nonzero()[:, 0]
    owner, place = flat[listed].sort(dim=0, stable=True)
    counts = torch.bincount(owner, minlength=r)
    if counts.shape[0] > r:
        raise ValueError(
            f"{who}: expected labels to be < {r}, the number of values of b, got {int(owner[-1])}"
        )
    if bool((counts == 0).any()):
        raise ValueError(
            f"{who}: expected every block to have a cell, got none in block "
            f"{int((counts == 0).nonzero()[0])}"
        )
    cells = listed[place]
    rows = make_disjoint(values[..., cells], cells, counts, flat.shape[0])
    group = make_group(who, rows, b, noise_variance, names, validate=validate, default_name="block")
    if group.matrix:
        raise ValueError(
            f"{who}: expected noise_variance to be a variance per row, got shape "
            f"{tuple(group.noise.shape)}; correlated noise needs LinearConstraint(law.rows, ...)"
        )
    if validate:
        check_finite(who, "volumes", rows.values)
        weightless = rows.apply(torch.ones_like(values), absolute=True) == 0
        if bool(weightless.any()):
            index = int(weightless.nonzero()[0][-1])
            raise ValueError(
                f"{who}: expected every block to have a non-zero volume, got {fmt(0.0)} in "
                f"block {index}"
            )
    return LinearConstraint.from_groups([group])
