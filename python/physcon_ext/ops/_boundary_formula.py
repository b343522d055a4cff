# SPDX-License-Identifier: Apache-2.0
"""The corrected convolution by differentiable tensor operations, complex128 inside.

Derivatives of derivatives and forward mode use it; values and gradients come from the compiled op.
Spectra are laid out as there: modes first, ``(M_1, .., M_d, *batch, channels)``, phases about the
centre of each axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from physcon_ext.ops._faces import assign_by_formula, pull_by_formula
from physcon_ext.ops.composite.spectral import analyse, as_complex, conjugate, mix, synthesise
from physcon_ext.reference.spectral_conv import fourier_matrix, signed_wavenumbers


def correction_of(
    size: Sequence[int], weight: Tensor, gains: Sequence[Tensor], period: Sequence[float]
) -> Correction:
    """Return the sizes of a call of the op."""
    d = len(period)
    return Correction(
        size=tuple(size),
        modes=tuple(weight.shape[:d]),
        period=tuple(period),
        channels=(weight.shape[-3], weight.shape[-2]),
        corrected=tuple(axis for axis in range(d) if gains[axis].numel()),
    )


@dataclass(frozen=True)
class Correction:
    """Sizes of one call.

    Attributes:
        size: Points per axis.
        modes: Modes per axis.
        period: Fourier period per axis in points.
        channels: Channels in and out.
        corrected: The axes that have gains.
    """

    size: tuple[int, ...]
    modes: tuple[int, ...]
    period: tuple[float, ...]
    channels: tuple[int, int]
    corrected: tuple[int, ...]

    @property
    def dims(self) -> int:
        """Number of axes."""
        return len(self.size)

    def wavenumbers(self, axis: int, device: torch.device) -> Tensor:
        """Wavenumbers of an axis in their order, float64."""
        count = self.modes[axis]
        if axis < self.dims - 1:
            return signed_wavenumbers(count, device)
        return torch.arange(count, dtype=torch.float64, device=device)

    def others(self, axis: int) -> tuple[int, ...]:
        """Modes of the axes other than this one."""
        return self.modes[:axis] + self.modes[axis + 1 :]

    def phase(self, axis: int, device: torch.device) -> Tensor:
        """``e_k``, the transform of a unit source at the first point."""
        turns = self.wavenumbers(axis, device) * (self.size[axis] - 1)
        turns = torch.remainder(turns, 2 * self.period[axis]) / self.period[axis]
        return torch.exp(1j * math.pi * turns)

    def weights(self, axis: int, device: torch.device) -> Tensor:
        """``h_k``, the weight of each mode in the inverse transform along the axis."""
        k = self.wavenumbers(axis, device)
        twice = (k > 0) & (2 * k != self.period[axis]) & (axis == self.dims - 1)
        return torch.where(twice, 2.0, 1.0).double() / self.period[axis]

    def basis(self, axis: int, device: torch.device) -> Tensor:
        """``exp(-i w_k (n - c))``, (points, modes)."""
        size = self.size[axis]
        k = self.wavenumbers(axis, device)
        return fourier_matrix(size, k, self.period[axis], (size - 1) / 2)

    # ---- maps ------------------------------------------------------------------------------------

    def analyse(self, x: Tensor, *, weighted: bool = False) -> Tensor:
        """The truncated transform of a field."""
        return analyse(x, self.modes, self.period, weighted=weighted)

    def synthesise(self, spectrum: Tensor, *, weighted: bool = False) -> Tensor:
        """The adjoint of `analyse` with the same flag."""
        return synthesise(spectrum, self.size, self.period, weighted=weighted)

    def ends(self, spectrum: Tensor, axis: int) -> Tensor:
        """Transforms of the field at both ends of an axis, ``(*others, *batch, 2 channels)``."""
        weighted = spectrum * self._along(self.weights(axis, spectrum.device), axis, spectrum.ndim)
        first, last = self.sources_adjoint(weighted, axis).chunk(2, -1)
        return torch.cat([self._real_field(first, axis), self._real_field(last, axis)], -1)

    def ends_adjoint(self, ends: Tensor, axis: int) -> Tensor:
        """The adjoint of `ends`."""
        first, last = (self._real_field(line, axis) for line in ends.chunk(2, -1))
        spectrum = self.sources(torch.cat([first, last], -1), axis)
        return spectrum * self._along(self.weights(axis, ends.device), axis, spectrum.ndim)

    @staticmethod
    def _along(values: Tensor, axis: int, ndim: int) -> Tensor:
        return values.reshape(-1, *(1,) * (ndim - axis - 1))

    def _real_field(self, line: Tensor, axis: int) -> Tensor:
        """The part of a transform that belongs to the real part of its field."""
        last, mirror, sign = self.dims - 1, conjugate(line), torch.ones((), device=line.device)
        rest = [a for a in range(self.dims) if a != axis]
        plane = torch.ones((), dtype=torch.bool, device=line.device)
        for place, a in enumerate(rest):
            k = self.wavenumbers(a, line.device)
            shape = (-1, *(1,) * (line.ndim - place - 1))
            nyquist = 2 * k.abs() == self.period[a]
            # The phase of the centre at the Nyquist mode, twice.
            sign = sign * torch.where(nyquist, (-1.0) ** (self.size[a] - 1), 1.0).reshape(shape)
            if a == last:
                plane = plane & ((k == 0) | nyquist).reshape(shape)
                continue
            partner = torch.where(nyquist, k, -k)
            kept = partner < len(k) // 2
            index = torch.remainder(torch.where(kept, partner, 0), len(k)).long()
            mirror = mirror.index_select(place, index) * kept.double().reshape(shape)
        return torch.where(plane, (line + sign * mirror) / 2, line)

    def lines(self, x: Tensor) -> list[Tensor]:
        """Transforms of the end lines of the input per corrected axis, as `ends`."""
        found = []
        for axis in self.corrected:
            at = x.ndim - self.dims + axis
            both = torch.cat([x.select(at, 0), x.select(at, -1)], dim=x.ndim - self.dims - 1).to(
                torch.complex128
            )
            for a in range(self.dims):
                if a != axis:
                    basis = self.basis(a, x.device)
                    # The first axis that is left goes to the end; all of them end in order.
                    first = x.ndim - self.dims
                    both = torch.tensordot(both, basis, dims=([first], [0]))
            spatial = range(self.dims - 1)
            found.append(both.movedim([i - self.dims + 1 for i in spatial], list(spatial)))
        return found

    def sources(self, shift: Tensor, axis: int) -> Tensor:
        """Spectrum of sources at both ends of an axis."""
        first, last = (s.unsqueeze(axis) for s in shift.chunk(2, -1))
        phase = self._along(self.phase(axis, shift.device), axis, first.ndim)
        return first * phase + last * conjugate(phase)

    def sources_adjoint(self, spectrum: Tensor, axis: int) -> Tensor:
        """The adjoint of `sources`."""
        phase = self.phase(axis, spectrum.device)
        rows = [torch.tensordot(p, spectrum, dims=([0], [axis])) for p in (conjugate(phase), phase)]
        return torch.cat(rows, -1)

    def shift(self, seen: Tensor, matrix: Tensor) -> Tensor:
        """What a gain (or its adjoint) makes of numbers per mode of the other axes."""
        rows = seen.reshape(-1, *seen.shape[self.dims - 1 :])
        moved = torch.einsum("q...i,qio->q...o", rows, matrix)
        return moved.reshape(*seen.shape[:-1], moved.shape[-1])

    def matrix(self, gain: Tensor) -> Tensor:
        """A gain as complex matrices; with a single axis its imaginary part does not count."""
        if self.dims == 1 or gain.shape[-1] == 1:
            return gain[..., 0].to(torch.complex128)
        return as_complex(gain)

    def gain_gradient(self, seen: Tensor, grad: Tensor, gain: Tensor) -> Tensor:
        """The gradient of a gain from what it was applied to and that of its result."""
        rows, grads = (t.reshape(-1, *t.shape[self.dims - 1 :]) for t in (seen, grad))
        found = torch.einsum("q...i,q...o->qio", conjugate(rows), grads)
        if gain.shape[-1] == 1:
            return found.real[..., None]
        imaginary = torch.zeros_like(found.real) if self.dims == 1 else found.imag
        return torch.stack((found.real, imaginary), -1)

    def lines_adjoint(self, lines: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
        """The adjoint of `lines`, for an input of this shape, float64."""
        device = lines[0].device
        total = torch.zeros(tuple(shape), dtype=torch.float64, device=device)
        for axis, line in zip(self.corrected, lines, strict=True):
            field = line
            for a in range(self.dims):
                if a != axis:
                    field = torch.tensordot(
                        field, conjugate(self.basis(a, device)), dims=([0], [1])
                    )
            first, last = field.real.chunk(2, len(shape) - self.dims - 1)
            at = len(shape) - self.dims + axis
            gap = list(shape)
            gap[at] -= 2
            middle = total.new_zeros(gap)
            total = total + torch.cat([first.unsqueeze(at), middle, last.unsqueeze(at)], at)
        return total

    # ---- the op ----------------------------------------------------------------------------------

    def forward(
        self,
        spectrum: Tensor,
        lines: Sequence[Tensor],
        weight: Tensor,
        gains: Sequence[Tensor],
        values: Sequence[Tensor],
        stencils: Sequence[Tensor],
    ) -> tuple[Tensor, list[Tensor]]:
        """The output in float64 and, per corrected axis, ``[a_0 a_N y_0 y_N d_0 d_N]``."""
        w = as_complex(weight)
        records = self._records(spectrum, lines, w, gains)
        for axis, (_, moved) in zip(self.corrected, records, strict=True):
            spectrum = spectrum + self.sources(moved, axis)
        field = self.synthesise(mix(spectrum, w, self.dims), weighted=True)
        y = assign_by_formula(field, values, stencils, self.dims)
        return y, [torch.cat(record, -1) for record in records]

    def _records(
        self, spectrum: Tensor, lines: Sequence[Tensor], w: Tensor, gains: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """``[a_0 a_N y_0 y_N]`` and ``[d_0 d_N]`` per corrected axis."""
        shifts, records = torch.zeros_like(spectrum), []
        for axis, line in zip(self.corrected, lines, strict=True):
            own = line + self.ends(shifts, axis)
            seen = torch.cat([own, self.ends(mix(spectrum + shifts, w, self.dims), axis)], -1)
            moved = self.shift(seen, self.matrix(gains[axis]))
            shifts = shifts + self.sources(moved, axis)
            records.append((seen, moved))
        return records

    def transform(self, x: Tensor) -> tuple[Tensor, ...]:
        """Spectrum and end lines of an input."""
        return (self.analyse(x), *self.lines(x))

    def adjoint(
        self,
        grad: Tensor,
        spectrum: Tensor,
        lines: Sequence[Tensor],
        weight: Tensor,
        gains: Sequence[Tensor],
        values: Sequence[Tensor],
        stencils: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Gradients of input, weight, gains and face data, in float64."""
        field, value_grads = pull_by_formula(grad.double(), values, stencils, self.dims)
        upstream = self.analyse(field, weighted=True)
        w = as_complex(weight)
        back = conjugate(w.transpose(-1, -2))
        records = self._records(spectrum, lines, w, gains)
        through, weight_grad = torch.zeros_like(spectrum), torch.zeros_like(w)
        gain_grads = [torch.zeros_like(gain) for gain in gains]
        line_grads: list[Tensor] = []
        count = 2 * self.channels[0]
        for axis, (seen, moved) in reversed(list(zip(self.corrected, records, strict=True))):
            weight_grad = weight_grad + self._product(self.sources(moved, axis), upstream)
            pulled = mix(upstream, back, self.dims) + through
            shift_grad = self.sources_adjoint(pulled, axis)
            if self.dims == 1:
                shift_grad = shift_grad.real.to(shift_grad.dtype)
            gain_grads[axis] = self.gain_gradient(seen, shift_grad, gains[axis])
            matrix = conjugate(self.matrix(gains[axis]).transpose(-1, -2))
            seen_grad = self.shift(shift_grad, matrix)
            upstream = upstream + self.ends_adjoint(seen_grad[..., count:], axis)
            through = through + self.ends_adjoint(seen_grad[..., :count], axis)
            line_grads.insert(0, seen_grad[..., :count])
        weight_grad = weight_grad + self._product(spectrum, upstream)
        x_grad = self.synthesise(mix(upstream, back, self.dims))
        if line_grads:
            x_grad = x_grad + self.lines_adjoint(line_grads, x_grad.shape)
        pairs = torch.stack((weight_grad.real, weight_grad.imag), -1)
        return x_grad, pairs, gain_grads, value_grads

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        """``X^H g`` per mode, summed over the batch."""
        a, b = (t.reshape(*self.modes, -1, t.shape[-1]) for t in (left, right))
        return conjugate(a.transpose(-1, -2)) @ b

    # ---- records of the compiled op --------------------------------------------------------------

    def pack(self, records: Sequence[Tensor], batch: Sequence[int], like: Tensor) -> Tensor:
        """Records as the compiled op lays them out, ``(modes, *batch, numbers)``."""
        length = 4 * self.channels[0] + 2 * self.channels[1]
        parts = 1 if self.dims == 1 else 2
        rows = [r.reshape(-1, *batch, length) for r in records]
        if not rows:
            return like.new_empty(0, *batch, length * parts, dtype=torch.float64)
        whole = torch.cat(rows)
        if parts == 1:
            return whole.real.contiguous()
        return torch.view_as_real(whole).flatten(-2)

    def unpack(self, shifts: Tensor) -> list[Tensor]:
        """The inverse of `pack`, complex, one axis each."""
        whole = shifts.to(torch.complex128)
        if self.dims > 1:
            whole = as_complex(shifts.unflatten(-1, (-1, 2)))
        counts = [math.prod(self.others(axis)) for axis in self.corrected]
        return (
            [
                rows.reshape(*self.others(axis), *rows.shape[1:])
                for axis, rows in zip(self.corrected, whole.split(counts), strict=True)
            ]
            if counts
            else []
        )

    def kept_lines(self, shifts: Tensor) -> list[Tensor]:
        """The end lines of the input from a record.

        The record of an axis holds them with the shifts of earlier axes, which are taken off as
        constants: the derivative of a record is by convention that of the end lines.
        """
        found, count = [], 2 * self.channels[0]
        earlier: Tensor | None = None
        for axis, record in zip(self.corrected, self.unpack(shifts), strict=True):
            line = record[..., :count]
            if earlier is not None:
                line = line - self.ends(earlier, axis)
            found.append(line)
            source = self.sources(record[..., -count:].detach(), axis)
            earlier = source if earlier is None else earlier + source
        return found

    def as_record(self, lines: Sequence[Tensor], batch: Sequence[int], like: Tensor) -> Tensor:
        """A record that holds end lines and zeros."""
        rest = 2 * self.channels[0] + 2 * self.channels[1]
        padded = [torch.nn.functional.pad(line, (0, rest)) for line in lines]
        return self.pack(padded, batch, like)

    def from_record(self, shifts: Tensor) -> list[Tensor]:
        """The slots of the end lines."""
        return [record[..., : 2 * self.channels[0]] for record in self.unpack(shifts)]
