# SPDX-License-Identifier: Apache-2.0
"""Soft rows on three neighbouring points, in torch operations: ``O(n log n)``, float64.

With ``E = D diag(sqrt(s))``, ``Lambda = I + E^T R^-1 E`` is pentadiagonal, that is block
tridiagonal with blocks of two points. Its Cholesky factor, solutions and selected inverse are
recurrences along the blocks with associative steps, so each is a parallel scan (Blelloch 1990):
``log2(n / 2)`` batched products of 2 x 2 matrices instead of ``n`` dependent ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from physcon_ext.reference.row_system import RowStatus


Element = tuple[Tensor, ...]
# Complex-step derivative (Squire and Trapp 1998): so small a step that its square is nothing.
_STEP = 2.0**-200
_REACH = 5  # the inverse is wanted up to four points off the diagonal


def _scan(combine: Callable[[Element, Element], Element], element: Element) -> Element:
    """Inclusive scan over axis -3 (blocks) of matrices ``(..., blocks, i, j)``."""
    count = element[0].shape[-3]
    step = 1
    while step < count:
        left = tuple(x[..., :-step, :, :] for x in element)
        right = tuple(x[..., step:, :, :] for x in element)
        element = tuple(
            torch.cat([x[..., :step, :, :], y], -3)
            for x, y in zip(element, combine(left, right), strict=True)
        )
        step *= 2
    return element


def _inverse(m: Tensor) -> Tensor:
    """Inverse of 2 x 2 matrices."""
    a, b, c, d = m[..., 0, 0], m[..., 0, 1], m[..., 1, 0], m[..., 1, 1]
    adjugate = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
    return adjugate / (a * d - b * c)[..., None, None]


def _sandwich(left: Tensor, middle: Tensor, right: Tensor) -> Tensor:
    """``left^T middle^-1 right`` for a symmetric positive definite 2 x 2 ``middle``.

    By elimination of one variable after the other: no difference of products that may cancel.
    """
    pivot = middle[..., 0, 0, None, None]
    ratio = middle[..., 1, 0, None, None] / pivot
    rest = middle[..., 1, 1, None, None] - ratio * middle[..., 0, 1, None, None]
    l0, l1 = left[..., 0, :], left[..., 1, :]
    r0, r1 = right[..., 0, :], right[..., 1, :]
    l1, r1 = l1 - ratio[..., 0] * l0, r1 - ratio[..., 0] * r0
    first = l0[..., :, None] * r0[..., None, :] / pivot
    return first + l1[..., :, None] * r1[..., None, :] / rest


class Pentadiagonal:
    """``Lambda`` as blocks of two points, padded to whole blocks, and its factor.

    Attributes:
        schur: ``S_j``, the block left at ``j`` when all before it are eliminated.
        coupling: ``Lambda_(j, j + 1)``.
        gain: ``S_j^-1 Lambda_(j, j + 1)``.
    """

    def __init__(self, band: Tensor) -> None:
        """``band``: lower bands, ``band[..., d, j] = Lambda(j + d, j)``, ``(*batch, 3, n)``."""
        self.points = band.shape[-1]
        odd = self.points % 2
        d, l1, l2 = torch.nn.functional.pad(band, (0, odd)).unbind(-2)
        if odd:  # a point of its own, coupled to nothing
            d = torch.cat([d[..., :-1], torch.ones_like(d[..., -1:])], -1)
        self.node = self._blocks(d[..., ::2], l1[..., ::2], l1[..., ::2], d[..., 1::2])
        coupling = self._blocks(
            l2[..., ::2], torch.zeros_like(d[..., ::2]), l1[..., 1::2], l2[..., 1::2]
        )
        self.coupling = coupling[..., :-1, :, :]
        self.schur = self._eliminate()
        whole = _sandwich(
            _unit(self.schur[..., :-1, :, :]), self.schur[..., :-1, :, :], self.coupling
        )
        self.gain = torch.cat([whole, torch.zeros_like(self.schur[..., :1, :, :])], -3)

    @staticmethod
    def _blocks(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        return torch.stack([torch.stack([a, b], -1), torch.stack([c, d], -1)], -2)

    def _eliminate(self) -> Tensor:
        """Every ``S_j``: quadratic forms of neighbours merge by eliminating what is between."""
        if self.coupling.shape[-3] == 0:
            return self.node
        # Form j couples block j, whose own term it carries, to block j + 1.
        form = (
            self.node[..., :-1, :, :],
            self.coupling,
            torch.zeros_like(self.coupling),
        )

        def merge(left: Element, right: Element) -> Element:
            (p, q, r), (p2, q2, r2) = left, right
            middle = r + p2
            qt = q.mT
            return (
                p - _sandwich(qt, middle, qt),
                -_sandwich(qt, middle, q2),
                r2 - _sandwich(q2, middle, q2),
            )

        p, q, r = _scan(merge, form)
        later = self.node[..., 1:, :, :] + r - _sandwich(q, p, q)
        return torch.cat([self.node[..., :1, :, :], later], -3)

    def cholesky(self) -> Tensor:
        """Lower Cholesky bands, ``(*batch, 3, n)``."""
        s = self.schur
        d0 = s[..., 0, 0].sqrt()
        inside = s[..., 1, 0] / d0
        d1 = (s[..., 1, 1] - inside * inside).sqrt()
        # Below block j: Lambda_(j + 1, j) L_j^-T.
        below = torch.nn.functional.pad(self.coupling.mT, (0, 0, 0, 0, 0, 1))
        b00, b10 = below[..., 0, 0] / d0, below[..., 1, 0] / d0
        b01 = (below[..., 0, 1] - b00 * inside) / d1
        b11 = (below[..., 1, 1] - b10 * inside) / d1
        rows = (
            torch.stack([d0, d1], -1).flatten(-2),
            torch.stack([inside, b01], -1).flatten(-2),
            torch.stack([b00, b11], -1).flatten(-2),
        )
        return torch.stack(rows, -2)[..., : self.points]

    def solve(self, x: Tensor) -> Tensor:
        """``Lambda^-1 x`` for ``(*batch, k, n)``."""
        count = self.schur.shape[-3]
        right = torch.nn.functional.pad(x, (0, 2 * count - self.points))
        right = right.unflatten(-1, (count, 2)).movedim(-3, -1)  # (*batch, blocks, 2, k)

        def follow(left: Element, right: Element) -> Element:
            return right[0] @ left[0], right[0] @ left[1] + right[1]

        # z_j = x_j - Lambda_(j, j - 1) S_(j - 1)^-1 z_(j - 1), then y_j = S_j^-1 z_j - gain y.
        first = torch.zeros_like(self.gain[..., :1, :, :])
        back = torch.cat([first, -self.gain[..., :-1, :, :].mT], -3)
        z = _scan(follow, (back, right))[1]
        z = _sandwich(_unit(self.schur), self.schur, z)
        y = _scan(follow, (-self.gain.flip(-3), z.flip(-3)))[1].flip(-3)
        return y.movedim(-1, -3).flatten(-2)[..., : self.points]

    def selected_inverse(self) -> Tensor:
        """``(Lambda^-1)(j + d, j)`` for ``d < 5``, zeros outside, ``(*batch, 5, n)``."""

        def follow(left: Element, right: Element) -> Element:
            k, q = right
            return k @ left[0], k @ left[1] @ k.mT + q

        own = _sandwich(_unit(self.schur), self.schur, _unit(self.schur))
        sigma = _scan(follow, (self.gain.flip(-3), own.flip(-3)))[1].flip(-3)
        pad = torch.nn.functional.pad

        def shifted(blocks: Tensor, by: int) -> Tensor:
            return pad(blocks[..., by:, :, :], (0, 0, 0, 0, 0, by))

        one = -self.gain @ shifted(sigma, 1)  # (j, j + 1)
        two = -self.gain @ shifted(one, 1)  # (j, j + 2)
        even = (sigma[..., 0, 0], sigma[..., 0, 1], one[..., 0, 0], one[..., 0, 1], two[..., 0, 0])
        odd = (sigma[..., 1, 1], one[..., 1, 0], one[..., 1, 1], two[..., 1, 0], two[..., 1, 1])
        found = [torch.stack(pair, -1).flatten(-2) for pair in zip(even, odd, strict=True)]
        result = torch.stack(found, -2)[..., : self.points]
        offset = torch.arange(_REACH, device=result.device)[:, None]
        column = torch.arange(self.points, device=result.device)
        return torch.where(offset + column < self.points, result, 0.0)


def _unit(like: Tensor) -> Tensor:
    return torch.eye(2, dtype=like.dtype, device=like.device).expand(like.shape)


def _squared_rows(rows: Tensor, noise: Tensor) -> Tensor:
    """Lower bands of ``rows^T diag(noise)^-1 rows`` for three-point rows ``(..., n - 2, 3)``."""
    pad = torch.nn.functional.pad
    r = [rows[..., i] for i in range(3)]
    p = [x / noise for x in r]
    diagonal = pad(p[0] * r[0], (0, 2)) + pad(p[1] * r[1], (1, 1)) + pad(p[2] * r[2], (2, 0))
    first = pad(p[0] * r[1], (0, 2)) + pad(p[1] * r[2], (1, 1))
    return torch.stack([diagonal, first, pad(p[0] * r[2], (0, 2))], -2)


def _precision(variance: Tensor, stencil: Tensor, noise: Tensor) -> Tensor:
    """Lower bands of ``Lambda``."""
    root = variance.sqrt()
    n = root.shape[-1]
    scaled = torch.stack([stencil[..., i] * root[..., i : n - 2 + i] for i in range(3)], -1)
    band = _squared_rows(scaled, noise)
    band[..., 0, :] += 1
    return band


def _times(stencil: Tensor, x: Tensor) -> Tensor:
    """``D x``."""
    n = x.shape[-1]
    return torch.stack([stencil[..., i] * x[..., i : n - 2 + i] for i in range(3)]).sum(0)


def _spread(stencil: Tensor, y: Tensor) -> Tensor:
    """``D^T y``."""
    pad = torch.nn.functional.pad
    parts = [pad(stencil[..., i] * y, (i, 2 - i)) for i in range(3)]
    return parts[0] + parts[1] + parts[2]


def condition_banded(
    mean: Tensor, variance: Tensor, stencil: Tensor, target: Tensor, noise: Tensor
) -> tuple[Tensor, ...]:
    """Composite of ``physcon::condition_banded``."""
    m, s, t, r = mean.double(), variance.double(), target.double(), noise.double()
    d = stencil.double()
    matrix = Pentadiagonal(_precision(s, d, r))
    band = matrix.cholesky()
    root = s.sqrt()
    right = root * _spread(d, (t - _times(d, m)) / r)
    moved = m + root * matrix.solve(right[..., None, :])[..., 0, :]
    left = s * matrix.selected_inverse()[..., 0, :]
    finite = moved.isfinite().all(-1, keepdim=True) & band[..., 0, :].isfinite().all(
        -1, keepdim=True
    )
    info = torch.where(finite, int(RowStatus.USED), int(RowStatus.NON_FINITE)).to(torch.int32)
    return (
        torch.where(finite, moved, torch.nan).to(mean.dtype),
        torch.where(finite, left, torch.nan).to(mean.dtype),
        band,
        (t - _times(d, moved)) / r,
        info,
    )


def condition_banded_backward(
    grad_mean: Tensor,
    grad_variance: Tensor,
    mean: Tensor,
    variance: Tensor,
    stencil: Tensor,
    target: Tensor,
    noise: Tensor,
    mean_posterior: Tensor,
    band: Tensor,
    multipliers: Tensor,
) -> tuple[Tensor, ...]:
    """Composite of ``physcon::condition_banded_backward``.

    ``H = D^T R^-1 D``, ``Sigma = S'`` and ``Omega = S' diag(q) S'``, the derivative of ``S'``
    along ``-diag(q)``, both up to four points off the diagonal.
    """
    s, r, d, alpha = variance.double(), noise.double(), stencil.double(), multipliers
    p, q, posterior = grad_mean.double(), grad_variance.double(), mean_posterior.double()
    n = s.shape[-1]
    precision = _precision(s, d, r)
    slope = torch.zeros_like(precision)
    slope[..., 0, :] = _STEP * (s * q)
    both = Pentadiagonal(torch.complex(precision, slope)).selected_inverse()
    root = s.sqrt()
    padded = torch.nn.functional.pad(root, (0, _REACH))
    scale = torch.stack([root * padded[..., k : k + n] for k in range(_REACH)], -2)
    sigma, omega = scale * both.real, -scale * (both.imag / _STEP)
    h = torch.nn.functional.pad(_squared_rows(d, r), (0, 0, 0, _REACH - 3))

    gain = _times(d, root * Pentadiagonal(precision).solve((root * p)[..., None, :])[..., 0, :]) / r
    mean_bar = p - _spread(d, gain)
    pull = _spread(d, alpha)
    # Diagonals of H Sigma H and H Omega H.
    inner, curvature = _banded_square(h, sigma), _banded_square(h, omega)
    leverage = h[..., 0, :] - inner
    variance_bar = mean_bar * pull + q * (1 - 2 * s * leverage) + curvature

    omega_rows, sigma_rows = _Symmetric(omega), _Symmetric(sigma)
    h_rows = _Symmetric(h)
    count = n - 2
    quadratic = torch.zeros_like(gain)
    stencil_bar = []
    for i in range(3):
        cell = slice(i, count + i)
        along, mixed = torch.zeros_like(gain), torch.zeros_like(gain)
        for j in range(3):
            along = along + d[..., j] * sigma_rows.at(j, i, count)
            quadratic = quadratic + d[..., j] * omega_rows.at(j, i, count) * d[..., i]
            for k in range(i - 2, i + 3):
                mixed = mixed + d[..., j] * omega_rows.at(j, k, count) * h_rows.at(k, i, count)
        own = s[..., cell]
        stencil_bar.append(
            alpha * own * mean_bar[..., cell]
            - gain * posterior[..., cell]
            + 2 * own / r * (mixed - along * q[..., cell])
        )
    dtype = mean.dtype
    return (
        mean_bar.to(dtype),
        variance_bar.to(dtype),
        torch.stack(stencil_bar, -1).to(dtype),
        gain.to(dtype),
        (quadratic / r.square() - gain * alpha).to(dtype),
    )


class _Symmetric:
    """Entries of a symmetric banded matrix given by its lower bands ``(*batch, reach, n)``."""

    def __init__(self, band: Tensor) -> None:
        # Two points of zeros on either side answer indices outside the matrix.
        self.band = torch.nn.functional.pad(band, (2, 2))

    def at(self, i: int, j: int, count: int) -> Tensor:
        """Entries ``(k + i, k + j)`` for ``k < count``."""
        first = min(i, j) + 2
        return self.band[..., abs(i - j), first : first + count]


def _banded_square(h: Tensor, x: Tensor) -> Tensor:
    """The diagonal of ``H X H``, ``H`` with two side bands."""
    n = h.shape[-1]
    outer, inner = _Symmetric(h), _Symmetric(x)
    total = torch.zeros_like(h[..., 0, :])
    for j in range(-2, 3):
        for k in range(-2, 3):
            total = total + outer.at(0, j, n) * inner.at(j, k, n) * outer.at(k, 0, n)
    return total


def banded_product(variance: Tensor, stencil: Tensor, noise: Tensor, x: Tensor) -> Tensor:
    """Composite of ``physcon::banded_product``."""
    s = variance.double()
    matrix = Pentadiagonal(_precision(s, stencil.double(), noise.double()))
    root = s.sqrt()[..., None, :]
    return (root * matrix.solve(root * x.double())).to(x.dtype)
