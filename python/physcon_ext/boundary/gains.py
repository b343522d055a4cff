# SPDX-License-Identifier: Apache-2.0
r"""How the end points of the input of a convolution have to move: the elimination, as gains.

A spectral convolution ``K`` answers a source at one end of an axis at both ends. In every mode of
the other axes the answers are blocks ``D`` (at the same end), ``G`` (first to last) and ``A``
(last to first), known from the weights alone. The kernel correction of N. Saad et al. (Guiding
continuous operator learning through physics-based boundary constraints, ICLR 2023) removes the
dependence of the ends of the output on everything but the ends of the input. It is a linear map of
the end values ``a`` of the input and ``y`` of the output to shifts of the end values of the input,

.. math:: [\delta_0\ \delta_N] = [a_0\ a_N\ y_0\ y_N]\, \Gamma, \qquad
          [\delta_0\ \delta_N]\, S = [a_0 T_0 - y_0,\ a_N T_N - y_N], \qquad
          S = \begin{pmatrix} D & G \\ A & D \end{pmatrix},

and this module makes ``Gamma``, in float64, differentiably, without reading a value on the host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor


Target: TypeAlias = Literal["joint", "left", "right"]
Pivot: TypeAlias = Literal["block", "scalar"]


@dataclass(frozen=True)
class EndResponse:
    """Answers at the ends of an axis to unit sources at the ends, per mode of the other axes.

    Attributes:
        same: ``D``, ``(Q, C_in, C_out)``: at the end of the source. Float64 for one axis,
            otherwise complex128.
        across: ``G``: at the last point, for a source at the first.
        back: ``A``: at the first point, for a source at the last.
    """

    same: Tensor
    across: Tensor
    back: Tensor


def end_response(
    weight: Tensor, axis: int, *, sizes: Sequence[int], period: Sequence[float]
) -> EndResponse:
    r"""Answers of a spectral convolution at the ends of one axis.

    .. math:: D = \sum_k c_k W_k / P, \qquad G = \sum_k c_k W_k e^{i \omega_k (N - 1)} / P, \qquad
              A = \sum_k c_k W_k e^{-i \omega_k (N - 1)} / P

    Args:
        weight: ``(M_1..M_d, C_in, C_out, 2)`` as `functional.spectral_conv` takes it.
        axis: The axis, ``0 <= axis < d``.
        sizes: Points per axis.
        period: Fourier period per axis in grid points.

    Returns:
        The blocks, ``Q`` being the modes of the other axes in their order.

    Notes:
        The inverse transform keeps the real part of the field. Where a mode of the other axes
        meets its own complex conjugate (the mean and the Nyquist mode of the last axis; all modes
        if the last axis is the one that is corrected) the blocks are those of the real field.
    """
    dims = weight.ndim - 3
    waves = [_wavenumbers(m, last=a == dims - 1) for a, m in enumerate(weight.shape[:dims])]
    k, scale = waves[axis], _mode_weights(waves[axis], period[axis], last=axis == dims - 1)
    # (N - 1) k is exact; reduced modulo the period before it is scaled.
    turns = torch.remainder(k.double() * (sizes[axis] - 1), period[axis]) / period[axis]
    real = (torch.cos(2 * math.pi * turns) * scale).to(weight.device)
    imag = (torch.sin(2 * math.pi * turns) * scale).to(weight.device)
    plain = scale.to(weight.device)
    w = weight.double()
    if dims == 1:  # Re(W e^{i t}) = Re W cos t - Im W sin t, without complex numbers
        rows = torch.stack([plain, real, real, torch.zeros_like(imag), -imag, imag])
        parts = (rows @ w.flatten(1)).unflatten(1, w.shape[1:])
        return EndResponse(*(parts[:3, ..., 0] + parts[3:, ..., 1]).unsqueeze(1))
    phase = torch.complex(torch.stack([plain, real, real]), torch.stack([0 * imag, imag, -imag]))
    blocks = torch.tensordot(phase, torch.view_as_complex(w.contiguous()).movedim(axis, 0), dims=1)
    return EndResponse(*_of_real_field(blocks, axis, waves, period).flatten(1, -3))


def end_system(response: EndResponse, skip: Tensor | None = None) -> Tensor:
    """Return ``S = [[D, G], [A, D]]``, with the weights of a pointwise layer on its diagonal."""
    own = response.same if skip is None else response.same + skip.to(response.same.dtype)
    rows = [torch.cat([own, response.across], -1), torch.cat([response.back, own], -1)]
    return torch.cat(rows, -2)


def correction_gain(
    response: EndResponse,
    *,
    ends: tuple[bool, bool] = (True, True),
    target: Target = "joint",
    ridge: float = 0.1,
    skip: Tensor | None = None,
    detach_ridge: bool = False,
) -> Tensor:
    r"""Gains of the block elimination, regularised.

    .. math:: \Gamma = \begin{pmatrix} T \\ -1 \end{pmatrix} (S^H S + \lambda^2)^{-1} S^H, \qquad
              \lambda^2 = \tau^2 \|S\|_F^2 / \mathrm{rank}, \qquad T = \mathrm{diag}(T_0, T_N)

    Args:
        response: What `end_response` returns.
        ends: Which ends are corrected.
        target: What remains at the ends: ``"joint"`` the answer of each end to itself,
            ``T_0 = T_N = D``; ``"left"`` and ``"right"`` what eliminating that end first and the
            other one after it leaves, e.g. ``T_0 = D - G D^{-1} A``.
        ridge: ``tau >= 0``. With 0 the elimination is exact for square regular blocks and the one
            of least norm for others. It trains badly; the ends are assigned in any case.
        skip: ``(C_in, C_out)``: weights of a pointwise layer that is added to the convolution and
            eliminated with it: ``S`` becomes ``S + diag(skip, skip)``.
        detach_ridge: Take ``lambda`` as a constant in derivatives.

    Returns:
        ``(Q, 2 (C_in + C_out), 2 C_in, 2)`` float64, as `ops.boundary_spectral_conv` takes it;
        the last size is 1 for one axis, where gains are real. Modes whose blocks are 0 get the
        gain 0.
    """
    d, g, a = response.same, response.across, response.back
    own = d if skip is None else d + skip.to(d.dtype)
    first, second = ends
    if first and second:
        solve = _regularised_inverse(end_system(response, skip), ridge, detach_ridge)
        upper, lower = solve.chunk(2, -2)
        at_first, at_last = d, d
        if target == "left":
            at_first = d - g @ _regularised_inverse(own, ridge, detach_ridge) @ a
        elif target == "right":
            at_last = d - a @ _regularised_inverse(own, ridge, detach_ridge) @ g
        gain = torch.cat([at_first @ upper, at_last @ lower, -solve], -2)
    else:
        gain = _one_end(own, d, ridge, detach_ridge, last=second)
    return _as_real(gain)


def scalar_gain(
    response: EndResponse,
    *,
    ends: tuple[bool, bool] = (True, True),
    clamp: Clamp | None = None,
    index_slip: bool = False,
) -> Tensor:
    r"""Gains of the published elimination: one scalar pivot for all channels, left end first.

    .. math:: \delta_0 = a_0 - (y_0 - \rho y_N + K_{0N} a_N) / \tilde k, \qquad
              \delta_N = a_N - (y_N + \delta_0 G) / K_{NN}, \qquad
              \rho = K_{0N} / K_{NN}, \quad \tilde k = K_{00} - K_{N0} \rho

    The scalars are answers of output channel 0 to a source in all input channels that does not
    vary along the other axes.

    Args:
        response: What `end_response` returns, with ``C_in = C_out``.
        ends: Which ends are corrected; a single one has ``delta = a - y / K``.
        clamp: What replaces small pivots; nothing if not given.
        index_slip: ``delta_N = 2 (a_0 + delta_0) - a_N - (y_N + delta_0 G) / K_NN``: the left
            value in the place of the right one, as the published program has it in space-time.

    Returns:
        As `correction_gain`.
    """
    d, g, a = response.same, response.across, response.back
    limit = clamp or Clamp(0.0)
    k00, kn0, k0n = (block[0, :, 0].real.sum() for block in (d, g, a))
    first, last = limit(k00), limit(k00)
    eye = torch.eye(d.shape[-2], dtype=d.dtype, device=d.device).expand_as(d)
    none = torch.zeros_like(d)
    if ends != (True, True):
        column = [eye, none, -eye / first, none] if ends[0] else [none, eye, none, -eye / last]
        moved = torch.cat(column, -2)
        parts = [moved, torch.zeros_like(moved)]
        return _as_real(torch.cat(parts if ends[0] else parts[::-1], -1))
    rho = k0n / last
    pivot = limit(k00 - kn0 * rho)
    one, zero = torch.ones_like(k00), torch.zeros_like(k00)
    seen = torch.stack([one, -k0n / pivot, -one / pivot, rho / pivot])
    own = torch.stack([zero, one, zero, -one / last])
    if index_slip:
        own = own + 2 * seen + torch.stack([2 * one, -2 * one, zero, zero])
    right = _below(own, eye) - _below(seen / last, g)
    return _as_real(torch.cat([_below(seen, eye), right], -1))


def _below(coefficients: Tensor, block: Tensor) -> Tensor:
    """Multiples of blocks ``(Q, C, C)``, one below the other."""
    return (coefficients[:, None, None] * block[:, None]).flatten(1, 2)


@dataclass(frozen=True)
class Clamp:
    """Replace a pivot that is too small.

    Attributes:
        tolerance: What counts as small.
        modulus: Compare the modulus; otherwise every negative pivot counts as small too.
        keep_sign: Use ``sign(v) sqrt(v^2 + tolerance^2)`` for every ``v``, which has a derivative;
            otherwise ``+tolerance`` for small pivots, whose derivative is 0.
    """

    tolerance: float | Tensor
    modulus: bool = True
    keep_sign: bool = False

    def __call__(self, value: Tensor) -> Tensor:
        """Return the pivot or its replacement, by a select on the device."""
        if self.keep_sign:
            size = (value**2 + self.tolerance**2).sqrt()
            return torch.where(value < 0, -size, size)
        small = (value.abs() if self.modulus else value) < self.tolerance
        return torch.where(small, torch.full_like(value, float(self.tolerance)), value)


def _one_end(own: Tensor, answer: Tensor, ridge: float, detach: bool, *, last: bool) -> Tensor:
    solve = _regularised_inverse(own, ridge, detach)
    kept, left_out = answer @ solve, torch.zeros_like(answer @ solve)
    nothing = torch.zeros_like(solve)
    if last:
        column = torch.cat([left_out, kept, nothing, -solve], -2)
        return torch.cat([torch.zeros_like(column), column], -1)
    column = torch.cat([kept, left_out, -solve, nothing], -2)
    return torch.cat([column, torch.zeros_like(column)], -1)


def _regularised_inverse(s: Tensor, ridge: float, detach: bool) -> Tensor:
    """Return ``(S^H S + lambda^2)^{-1} S^H``, from the smaller of the two Gram matrices."""
    rows, columns = s.shape[-2:]
    if ridge == 0.0:
        if rows != columns:
            return torch.linalg.pinv(s)
        return _inverse(s)
    size = _squares(s.detach() if detach else s)
    shift = ridge**2 * size / min(rows, columns)
    shift = torch.where(shift == 0, torch.ones_like(shift), shift)
    wide = rows < columns
    gram = s @ s.mH if wide else s.mH @ s
    gram = gram + shift * torch.eye(min(rows, columns), dtype=s.dtype, device=s.device)
    # The derivative of the inverse is two products, that of a factorisation many solves.
    inverse = _inverse(gram)
    return s.mH @ inverse if wide else inverse @ s.mH


def _inverse(matrix: Tensor) -> Tensor:
    """Inverse of each matrix of a batch; nothing is raised for a singular one."""
    if matrix.ndim > 2 and matrix.shape[-1] >= 128 and matrix.device.type == "cpu":
        # One by one: the batched LU of torch 2.13 with oneMKL returns wrong numbers, without
        # a word, for 160 rows and more once the number of threads was set above 1.
        found = [torch.linalg.inv_ex(m).inverse for m in matrix.flatten(0, -3).unbind()]
        return torch.stack(found).reshape(matrix.shape)
    return torch.linalg.inv_ex(matrix, check_errors=False).inverse


def _squares(s: Tensor) -> Tensor:
    """Sum of the squared moduli of a matrix."""
    parts = torch.view_as_real(s).flatten(-2) if s.is_complex() else s
    return parts.square().sum((-2, -1), keepdim=True)


def _as_real(gain: Tensor) -> Tensor:
    if gain.is_complex():
        return torch.view_as_real(gain)
    return gain.unsqueeze(-1)


def _wavenumbers(count: int, *, last: bool) -> Tensor:
    if last:
        return torch.arange(count)
    return torch.cat([torch.arange(count // 2), torch.arange(-(count // 2), 0)])


def _mode_weights(k: Tensor, period: float, *, last: bool) -> Tensor:
    """Weights of the modes in the inverse transform; modes of the last axis stand for two."""
    twice = last & (k > 0) & (2 * k != period)
    return torch.where(twice, 2.0, 1.0).double() / period


def _of_real_field(
    blocks: Tensor, axis: int, waves: Sequence[Tensor], period: Sequence[float]
) -> Tensor:
    """Average blocks ``(3, *modes, C_in, C_out)`` with the conjugates of their mirror modes."""
    last = len(waves) - 1
    rest = [a for a in range(last + 1) if a != axis]
    mirror = blocks.conj()
    for place, a in enumerate(rest, 1):
        if a == last:
            continue
        k = waves[a]
        partner = torch.where(2 * k == -period[a], k, -k)
        kept = torch.isin(partner, k)
        index = torch.where(kept, torch.remainder(partner, len(k)), 0).to(blocks.device)
        shape = (-1, *(1,) * (blocks.ndim - 1 - place))
        mirror = mirror.index_select(place, index) * kept.double().to(blocks.device).reshape(shape)
    average = (blocks + mirror) / 2
    if axis == last:
        return average
    k = waves[last].to(blocks.device)
    own = (k == 0) | (2 * k == period[last])
    return torch.where(own[:, None, None], average, blocks)
