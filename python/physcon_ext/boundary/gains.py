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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from physcon_ext import ops
from physcon_ext.ops._autograd import transformed, unrecorded
from physcon_ext.reference.two_step_gain import gain_of_steps


Target: TypeAlias = Literal["joint", "left", "right"]
Pivot: TypeAlias = Literal["block", "scalar"]


@dataclass(frozen=True)
class EndResponse:
    """Answers at the ends of an axis to unit sources at the ends, per mode of the other axes.

    Attributes:
        blocks: What `ops.end_response` returns.
    """

    blocks: Tensor

    @property
    def same(self) -> Tensor:
        """``D``, ``(Q, C_in, C_out)``, at the end of the source: float64, or complex128."""
        return self._block(0)

    @property
    def across(self) -> Tensor:
        """``G``: at the last point, for a source at the first."""
        return self._block(1)

    @property
    def back(self) -> Tensor:
        """``A``: at the first point, for a source at the last."""
        return self._block(2)

    def _block(self, index: int) -> Tensor:
        block = self.blocks[index]
        return torch.view_as_complex(block) if block.ndim == 4 else block


def end_response(
    weight: Tensor, axis: int, *, sizes: Sequence[int], period: Sequence[float]
) -> EndResponse:
    """Answers of a spectral convolution at the ends of one axis, see `ops.end_response`.

    Args:
        weight: ``(M_1..M_d, C_in, C_out, 2)`` as `functional.spectral_conv` takes it.
        axis: The axis, ``0 <= axis < d``.
        sizes: Points per axis.
        period: Fourier period per axis in grid points.

    Returns:
        The blocks, ``Q`` being the modes of the other axes in their order.

    Raises:
        TypeError, RuntimeError: If ``weight`` has the wrong type, or a size does not fit.

    Example:
        >>> mean = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)  # answers 1 / P everywhere
        >>> end_response(mean, 0, sizes=[3], period=[4.0]).across
        tensor([[[0.2500]]], dtype=torch.float64)
    """
    return EndResponse(ops.end_response(weight, axis, size=sizes, period=period))


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
        the last size is 1 for one axis, where gains are real. With a ridge, modes whose blocks are
        0 get the gain 0.

    Example:
        >>> weight = torch.tensor([1.0, 0.0]).expand(3, 1, 1, 2)
        >>> answers = end_response(weight, 0, sizes=[4], period=[8.0])
        >>> correction_gain(answers, ends=(True, False), ridge=0.0)[0, :, 0, 0]  # a_0 - y_0 / D
        tensor([ 1.0000,  0.0000, -1.6000,  0.0000], dtype=torch.float64)
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

    Example:
        >>> weight = torch.tensor([1.0, 0.0]).expand(3, 1, 1, 2)
        >>> answers = end_response(weight, 0, sizes=[4], period=[8.0])
        >>> scalar_gain(answers, ends=(False, True))[0, :, 1, 0]  # a_N - y_N / K
        tensor([ 0.0000,  1.0000,  0.0000, -1.6000], dtype=torch.float64)
    """
    limit = clamp or Clamp(0.0)
    slip = 2.0 if index_slip else 0.0
    if ends == (True, True) and limit.keep_sign:
        return gain_of_steps(response.blocks, limit, slip)
    if ends == (True, True):
        return ops.two_step_gain(
            response.blocks, tolerance=float(limit.tolerance), modulus=limit.modulus, slip=slip
        )
    d = response.same
    pivot = limit(d[0, :, 0].real.sum())
    moved = torch.eye(d.shape[-1], dtype=d.dtype, device=d.device).expand_as(d)
    nothing = torch.zeros_like(d)
    if ends[0]:
        column = torch.cat([moved, nothing, -moved / pivot, nothing], -2)
        return _as_real(torch.cat([column, torch.zeros_like(column)], -1))
    column = torch.cat([nothing, moved, nothing, -moved / pivot], -2)
    return _as_real(torch.cat([torch.zeros_like(column), column], -1))


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
    if rows < columns:
        return _regularised_inverse(s.mH, ridge, detach).mH
    if torch.compiler.is_compiling() or transformed() or unrecorded((s,)):
        return _solve_gram(s, ridge, detach)[0]
    found: Tensor = _Regularised.apply(s, ridge, detach)[0]
    return found


def _solve_gram(s: Tensor, ridge: float, detach: bool) -> tuple[Tensor, Tensor]:
    """Return ``(S^H S + lambda^2)^{-1} S^H`` and ``(S^H S + lambda^2)^{-1}``."""
    columns = s.shape[-1]
    shift = ridge**2 / columns * _squares(s.detach() if detach else s)
    shift = torch.where(shift == 0, torch.ones_like(shift), shift)
    gram = s.mH @ s + shift * torch.eye(columns, dtype=s.dtype, device=s.device)
    inverse = _inverse(gram)
    return inverse @ s.mH, inverse


class _Regularised(torch.autograd.Function):
    """`_solve_gram` with its adjoint written out: three products instead of a chain of ten."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, ridge: float, detach: bool) -> tuple[Tensor, Tensor]:
        found = _solve_gram(s, ridge, detach)
        ctx.save_for_backward(s, *found)
        ctx.per_trace = 0.0 if detach else 2 * ridge**2 / s.shape[-1]
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, grad_inverse: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        s, solve, inverse = ctx.saved_tensors
        # Gradients of S where it is no part of the Gram matrix, and of that matrix.
        direct, of_gram = torch.zeros_like(s), torch.zeros_like(inverse)
        if grad is not None:
            direct = grad.mH @ inverse
            of_gram = -(solve @ direct)
        if grad_inverse is not None:  # only derivatives of derivatives use the inverse
            of_gram = of_gram - inverse @ grad_inverse @ inverse
        trace = of_gram.diagonal(dim1=-2, dim2=-1).sum(-1).real[..., None, None]
        return direct + s @ (of_gram + of_gram.mH) + ctx.per_trace * trace * s, None, None


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
    squares = s.real.square() + s.imag.square() if s.is_complex() else s.square()
    return squares.sum((-2, -1), keepdim=True)


def _as_real(gain: Tensor) -> Tensor:
    if gain.is_complex():
        return torch.view_as_real(gain)
    return gain.unsqueeze(-1)
