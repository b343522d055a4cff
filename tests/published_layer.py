# SPDX-License-Identifier: Apache-2.0
"""The published boundary layer step by step: every step calls the convolution as a black box."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor


Operator = Callable[[Tensor], Tensor]


def fourier_layer(weight: Tensor) -> Operator:
    """The convolution of a Fourier neural operator by FFT, period equal to the grid."""
    dims = weight.ndim - 3
    w = torch.view_as_complex(weight)

    def apply(x: Tensor) -> Tensor:
        axes = tuple(range(-dims, 0))
        spectrum = torch.fft.rfftn(x, dim=axes)
        kept = spectrum[..., : weight.shape[dims - 1]]
        for axis in range(dims - 1):
            m, at = weight.shape[axis] // 2, x.ndim - dims + axis
            kept = torch.cat([kept.narrow(at, 0, m), kept.narrow(at, x.shape[at] - m, m)], at)
        letters = "pqr"[:dims]
        mixed = torch.einsum(f"bi{letters},{letters}io->bo{letters}", kept, w)
        for axis in range(dims - 1):
            m, at = weight.shape[axis] // 2, x.ndim - dims + axis
            shape = list(mixed.shape)
            shape[at] = x.shape[at] - 2 * m
            zeros = mixed.new_zeros(shape)
            mixed = torch.cat([mixed.narrow(at, 0, m), zeros, mixed.narrow(at, m, m)], at)
        return torch.fft.irfftn(mixed, s=x.shape[-dims:], dim=axes)

    return apply


def clamp(value: Tensor, dims: int, active: bool) -> Tensor:
    """Small pivots become positive; with two axes negative ones count as small."""
    if not active:
        return value
    tolerance = 1e-7 if dims == 1 else 1e-4
    small = value < tolerance if dims == 2 else value.abs() < tolerance
    return torch.where(small, torch.full_like(value, tolerance), value)


def eliminated(
    operator: Operator, a: Tensor, quirks: Collection[str], *, right_only: bool
) -> Tensor:
    """Output of the operator after the end points of its input along x have been moved."""
    dims, clamps = a.ndim - 2, "clamps" in quirks
    columns = []
    for end in (0, -1):
        impulse = torch.zeros_like(a[:1])
        impulse.select(2, end)[...] = 1.0
        answer = operator(impulse)[0, 0]
        # Vectors over time in space-time, read at the first y where there is one.
        read = [answer[goal] for goal in (0, -1)]
        columns.append([r[0] if dims == 3 else r for r in read])
    (k00, kn0), (k0n, knn) = columns
    k00, knn = clamp(k00, dims, clamps), clamp(knn, dims, clamps)
    y = operator(a)
    a0, an, y0, yn = a[:, :, 0], a[:, :, -1], y[:, :, 0], y[:, :, -1]
    moved = a.clone()
    if right_only:
        moved[:, :, -1] = 2 * an - yn / knn
        return operator(moved)
    rho = k0n / knn
    pivot = clamp(k00 - kn0 * rho, dims, clamps)
    delta = a0 - (y0 - rho * yn + k0n * an) / pivot
    moved[:, :, 0] = a0 + delta
    after = operator(moved)[:, :, -1]
    moved = moved.clone()
    if "index_slip" in quirks and dims > 1:
        moved[:, :, -1] = an + 2 * (a0 + delta) - after / knn - an
    else:
        moved[:, :, -1] = an + an - after / knn
    return operator(moved)


def dirichlet_layer(
    operator: Operator, a: Tensor, faces: list[tuple[Tensor, Tensor]], quirks: Collection[str]
) -> Tensor:
    """Elimination along x, then the faces: x_0, x_{N-1}, and y likewise where given."""
    u = eliminated(operator, a, quirks, right_only=False)
    for axis, (first, last) in enumerate(faces):
        u.select(2 + axis, 0)[...] = first
        u.select(2 + axis, -1)[...] = last
    if a.ndim == 4 and "mollifier" in quirks:
        n = u.shape[2]
        for block in (range(1, 5), range(n - 5, n - 1)):
            old = u.clone()
            for i in block:
                u[:, :, i] = (old[:, :, i - 1] + old[:, :, i] + old[:, :, i + 1]) / 3
    return u


def neumann_layer(
    operator: Operator, a: Tensor, slopes: tuple[Tensor, Tensor], h: float, quirks: Collection[str]
) -> Tensor:
    """Slopes along x at both ends: first order on the left, third order on the right."""
    right_only = a.ndim == 3 and "right_only" in quirks
    u = eliminated(operator, a, quirks, right_only=right_only)
    left, right = slopes
    if "left_stencil" in quirks:
        u[:, :, 0] = left + u[:, :, 1]
    else:  # the mirror image of the right end
        inner = 18 * u[:, :, 1] - 9 * u[:, :, 2] + 2 * u[:, :, 3]
        u[:, :, 0] = (inner - 6 * h * left) / 11
    inner = 18 * u[:, :, -2] - 9 * u[:, :, -3] + 2 * u[:, :, -4]
    u[:, :, -1] = 6 * h / 11 * right + inner / 11
    return u / 2 if "halving" in quirks else u


def periodic_layer(operator: Operator, a: Tensor) -> Tensor:
    """Both ends become their mean."""
    u = operator(a)
    mean = (u[:, :, 0] + u[:, :, -1]) / 2
    u[:, :, 0] = mean
    u[:, :, -1] = mean
    return u
