# SPDX-License-Identifier: Apache-2.0
"""The boundary correction as the program published with the method computes it.

For comparison with published results only. The formulas differ from the mathematics of the paper
in the places named by `QUIRKS`.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from physcon_ext.boundary.conditions import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Periodic,
)
from physcon_ext.boundary.enforcement import Rule
from physcon_ext.boundary.gains import Clamp, end_response, scalar_gain


QUIRKS = {
    "clamps": "small pivots become +1e-7 (one axis) or +1e-4; with two axes negative ones too",
    "index_slip": "with several axes the left value takes the place of the right one in the "
    "second step",
    "right_only": "Neumann conditions with one axis eliminate the right end only",
    "left_stencil": "the left Neumann end becomes u_1 + du/dx, of first order and without spacing",
    "halving": "layers with Neumann conditions halve their output",
    "mollifier": "Dirichlet ends in space-time: the four points next to each end become the mean "
    "of themselves and their neighbours",
}
DEFAULT_QUIRKS = frozenset(QUIRKS) - {"index_slip"}

_WHO = "boundary_spectral_conv"


def check_published(bc: BoundaryConditions, dims: int, quirks: Collection[str] | None) -> set[str]:
    """Return the quirks in force; raise for conditions that have no published program."""
    if isinstance(quirks, str):
        raise TypeError(f"{_WHO}: expected quirks to be a set of names, got {quirks!r}")
    chosen = set(DEFAULT_QUIRKS if quirks is None else quirks)
    unknown = sorted(chosen.difference(QUIRKS))
    if unknown:
        raise ValueError(f"{_WHO}: expected quirks among {sorted(QUIRKS)}, got {unknown}")
    kinds = [type(bc[edge]) for edge in bc.edges]
    whole = len(kinds) == 2 * bc.n_axes and len(set(kinds)) == 1
    fits = whole and (
        (kinds[0] in (Dirichlet, Neumann, Periodic) and bc.n_axes == 1 and dims <= 2)
        or (kinds[0] is Dirichlet and bc.n_axes == 2 and dims == 3)
    )
    if not fits:
        raise ValueError(
            f"{_WHO}: expected correction='published' with the same kind at both ends: Dirichlet, "
            f"Neumann or periodic on x or (x, t), Dirichlet on x and y of (x, y, t), got {bc} and "
            f"{dims} axes; use correction='exact'"
        )
    return chosen


def published_gains(
    weight: Tensor,
    bc: BoundaryConditions,
    *,
    sizes: list[int],
    period: list[float],
    quirks: Collection[str],
) -> list[Tensor | None]:
    """Return the gains per axis: the x axis only, with scalar pivots, left end first."""
    dims = weight.ndim - 3
    gains: list[Tensor | None] = [None] * dims
    if bc.is_periodic(0):
        return gains
    if weight.shape[-3] != weight.shape[-2]:
        raise ValueError(
            f"{_WHO}: expected as many output as input channels for correction='published', got "
            f"{weight.shape[-3]} and {weight.shape[-2]}"
        )
    one_sided = isinstance(bc["left"], Neumann) and dims == 1 and "right_only" in quirks
    clamp = Clamp(1e-7 if dims == 1 else 1e-4, modulus=dims != 2) if "clamps" in quirks else None
    gains[0] = scalar_gain(
        end_response(weight, 0, sizes=sizes, period=period),
        ends=(False, True) if one_sided else (True, True),
        clamp=clamp,
        index_slip="index_slip" in quirks and dims > 1,
    )
    return gains


def published_rules(rules: dict[str, Rule], quirks: Collection[str]) -> dict[str, Rule]:
    """Replace the row of the left Neumann end by the shipped one."""
    left = rules.get("left")
    if left is None or left.dirichlet or "left_stencil" not in quirks:
        return rules
    # u_0 = u_1 + du/dx; the data are outward derivatives unless they are given along x.
    return {**rules, "left": Rule("left", (1.0, -1.0), -left.sign, dirichlet=False)}


def after_assignment(
    u: Tensor, bc: BoundaryConditions, dims: int, quirks: Collection[str], *, layer: bool
) -> Tensor:
    """Apply what the program does after the ends have been assigned."""
    if isinstance(bc["left"], Neumann) and layer and "halving" in quirks:
        return u / 2
    if isinstance(bc["left"], Dirichlet) and dims == 2 and "mollifier" in quirks:
        return _mollify(u, u.ndim - 2)
    return u


def _mollify(u: Tensor, at: int) -> Tensor:
    n = u.shape[at]
    if n < 7:
        raise ValueError(f"{_WHO}: expected at least 7 points for the quirk 'mollifier', got {n}")
    for first in (1, n - 5):
        window = u.narrow(at, first - 1, 6)
        mean = (window.narrow(at, 0, 4) + window.narrow(at, 1, 4) + window.narrow(at, 2, 4)) / 3
        rest = u.narrow(at, first + 4, n - first - 4)
        u = torch.cat([u.narrow(at, 0, first), mean, rest], at)
    return u
