# SPDX-License-Identifier: Apache-2.0
"""The spectral convolution as a layer, with or without boundary conditions."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Collection, Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from physcon_ext import functional, ops
from physcon_ext.boundary import published
from physcon_ext.boundary.conditions import (
    BoundaryConditions,
    BoundaryValues,
    by_edge,
    check_conditions,
)
from physcon_ext.boundary.enforcement import Corner, Grid, check_corner
from physcon_ext.boundary.gains import Pivot, Target
from physcon_ext.boundary.periods import Period, axis_periods, check_period
from physcon_ext.functional import Correction
from physcon_ext.nn.boundary import BoundaryLayer
from physcon_ext.ops.fno_block import Activation


Init: TypeAlias = Literal["uniform", "diagonal", "normal"]

_WHO = "SpectralConv"


class SpectralConv(nn.Module):
    r"""Convolution with a learned kernel of few Fourier modes, corrected for its boundary.

    .. math:: y = F^{-1}_P (F_P\, x)_k W_k

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        n_modes: Non-negative wavenumbers kept per axis: ``(16,)`` keeps ``0..15``, ``(12, 12)``
            keeps ``24 x 12`` modes, signed along all axes but the last.
        boundary: Conditions at the edges; none if not given.
        correction: As in `functional.boundary_spectral_conv`; without a boundary ``"none"``.
        period: As in `functional.spectral_conv`; with a boundary by default extended on axes that
            are not periodic.
        init: ``"uniform"``: real and imaginary part uniform in [0, 1), over
            ``in_channels * out_channels``. ``"diagonal"``: in addition ``1 / (2 channels)`` on the
            real diagonal, which keeps the elimination well conditioned. ``"normal"``: normal with
            variance ``1 / (in_channels + out_channels)`` per part. By default ``"diagonal"`` for
            ``"exact"``, else ``"uniform"``.
        ridge: As in `functional.boundary_spectral_conv`.
        target: As in `functional.boundary_spectral_conv`.
        pivot: As in `functional.boundary_spectral_conv`.
        quirks: As in `functional.boundary_spectral_conv`.
        length: As in `BoundaryLayer`, for ``"smooth"``.
        learn_length: As in `BoundaryLayer`, for ``"smooth"``.
        corner: As in `boundary.enforce`.
        dtype: Of the weights; bfloat16 and float16 are computed in float32.
        device: Of the weights.

    Attributes:
        weight: ``(M_1..M_d, in_channels, out_channels, 2)``, real and imaginary part last.

    Raises:
        TypeError: If a size, the boundary or an option has the wrong type.
        ValueError: If an option is unknown, a size is not positive, or the boundary has more axes
            than ``n_modes``.

    Notes:
        State dictionaries with complex weights ``(in, out, *modes)`` under the names of common
        Fourier neural operators (``weight``, ``weight.tensor``, ``weights1``...) are converted
        when they are loaded. The gains of the correction are made once per state of the weights
        while no gradient is recorded, anew otherwise; on a GPU call `train` or `eval` after a
        change through ``weight.data``, which torch does not count. Weights trained with one ratio
        of period to domain are not valid for another.

    Example:
        >>> from physcon_ext.boundary import Dirichlet
        >>> bc = BoundaryConditions(left=Dirichlet(), right=Dirichlet())
        >>> layer = SpectralConv(2, 2, (8,), boundary=bc)
        >>> y = layer(torch.randn(4, 2, 64), {"left": 1.0, "right": torch.zeros(4, 1)})
        >>> y[0, 0, [0, -1]].tolist()
        [1.0, 0.0]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_modes: int | Sequence[int],
        *,
        boundary: BoundaryConditions | None = None,
        correction: Correction = "exact",
        period: Period = None,
        init: Init | None = None,
        ridge: float = 0.1,
        target: Target = "joint",
        pivot: Pivot = "block",
        quirks: Collection[str] | None = None,
        length: float | Sequence[float] | None = None,
        learn_length: bool = False,
        corner: Corner = "priority",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        modes = check_sizes(_WHO, n_modes, in_channels=in_channels, out_channels=out_channels)
        if correction not in get_args(Correction):
            raise ValueError(
                f"{_WHO}: expected correction to be one of {get_args(Correction)}, "
                f"got {correction!r}"
            )
        if not (dtype or torch.get_default_dtype()).is_floating_point:
            raise TypeError(f"{_WHO}: expected dtype to be a floating-point type, got {dtype}")
        check_period(period, len(modes), who=_WHO)
        functional.check_elimination(ridge, target, pivot, _WHO)
        if boundary is not None:
            check_boundary(boundary, len(modes), corner, _WHO)
            if correction == "published":
                published.check_published(boundary, len(modes), quirks)
        self.in_channels, self.out_channels, self.n_modes = in_channels, out_channels, modes
        self.bc = boundary
        self.correction: Correction = "none" if boundary is None else correction
        self.period, self.corner = period, corner
        self.options: dict[str, Any] = {
            "ridge": ridge,
            "target": target,
            "pivot": pivot,
            "quirks": quirks,
        }
        shape = (*(2 * m for m in modes[:-1]), modes[-1], in_channels, out_channels, 2)
        self.weight = nn.Parameter(torch.empty(shape, dtype=dtype, device=device))
        self.init = init or ("diagonal" if self.correction == "exact" else "uniform")
        self.smooth: BoundaryLayer | None = None
        if boundary is not None and self.correction == "smooth":
            self.smooth = BoundaryLayer(
                boundary, "smooth", length=length, learn_length=learn_length, corner=corner
            )
        self._gains = _GainCache()
        self.reset_parameters()
        self.register_load_state_dict_pre_hook(_convert_weights)

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        size = self.in_channels * self.out_channels
        with torch.no_grad():
            if self.init == "normal":
                self.weight.normal_(0.0, (self.in_channels + self.out_channels) ** -0.5)
            elif self.init in ("uniform", "diagonal"):
                self.weight.uniform_(0.0, 1.0 / size)
            else:
                raise ValueError(
                    f"{_WHO}: expected init to be one of {get_args(Init)}, got {self.init!r}"
                )
            if self.init == "diagonal":
                channels = min(self.in_channels, self.out_channels)
                self.weight[..., 0].diagonal(dim1=-2, dim2=-1).add_(0.5 / channels)

    def forward(
        self,
        x: Tensor,
        boundary_values: BoundaryValues | None = None,
        *,
        grid: Grid = None,
        assign: bool = True,
    ) -> Tensor:
        """Convolve a field.

        Args:
            x: ``(batch, in_channels, N_1..N_d)``, both ends of every axis included.
            boundary_values: Data by edge, see `boundary.boundary_values`.
            grid: Points along the axes, for Neumann and Robin conditions.
            assign: Assign the end points. ``False`` leaves them to a later layer.

        Returns:
            ``(batch, out_channels, N_1..N_d)``.
        """
        if self.bc is None:
            if boundary_values is not None:
                by_edge(BoundaryConditions(), boundary_values, _WHO)
            return functional.spectral_conv(x, self.weight, period=self.period)
        plain = self.correction == "smooth"
        y = functional.boundary_spectral_conv(
            x,
            self.weight,
            self.bc,
            boundary_values,
            correction="overwrite" if plain else self.correction,
            period=self.period,
            grid=grid,
            corner=self.corner,
            assign=assign and not plain,
            gains=self._current_gains(x.shape[x.ndim - len(self.n_modes) :]),
            **self.options,
        )
        if self.smooth is None or not assign:
            return y
        smoothed: Tensor = self.smooth(y, boundary_values, grid=grid)
        return smoothed

    def block(
        self,
        x: Tensor,
        skip: Tensor | None,
        bias: Tensor | None,
        *,
        activation: Activation = "gelu",
        values: Sequence[Tensor | None] | None = None,
        stencils: Sequence[Tensor | None] | None = None,
    ) -> Tensor | None:
        """Convolve as `forward` without assigning ends, and do what `ops.fno_block` adds to that.

        Args:
            x: As in `forward`.
            skip: As in `ops.fno_block`.
            bias: As in `ops.fno_block`.
            activation: As in `ops.fno_block`.
            values: As in `ops.fno_block`.
            stencils: As in `ops.fno_block`.

        Returns:
            ``(batch, out_channels, N_1..N_d)``, or None for what one op cannot do: periodic axes
            that are transformed without their last point, and the published correction.
        """
        sizes, dims = x.shape[2:], len(self.n_modes)
        native = self.bc is not None and any(self.bc.is_periodic(axis) for axis in range(dims))
        if native or self.correction == "published":
            return None
        extended = [self.bc is not None] * dims
        periods = None
        if self.bc is not None or self.period is not None:
            periods = axis_periods(self.period, sizes, self.n_modes, extended, who=_WHO)
        return ops.fno_block(
            x,
            self.weight,
            skip,
            bias,
            activation=activation,
            period=periods,
            gains=self._current_gains(sizes),
            values=values,
            stencils=stencils,
        )

    def train(self, mode: bool = True) -> SpectralConv:
        """Set the mode; forget gains, so that weights changed behind autograd's back count."""
        self._gains.clear()
        super().train(mode)
        return self

    def _current_gains(self, sizes: Sequence[int]) -> list[Tensor | None] | None:
        if self.bc is None or self.correction not in ("exact", "published"):
            return None

        def make() -> list[Tensor | None]:
            assert self.bc is not None
            options = {"correction": self.correction, "period": self.period, **self.options}
            return functional.correction_gains(self.weight, self.bc, sizes, **options)

        recorded = torch.is_grad_enabled() and self.weight.requires_grad
        transformed = torch._C._are_functorch_transforms_active()
        if recorded or transformed or torch.compiler.is_compiling():
            return make()
        if self.weight.is_inference() and not self.weight.is_cpu:
            return make()  # nothing tells of changes
        return self._gains.get(self.weight, tuple(sizes), make)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, n_modes={self.n_modes}"
        return text if self.bc is None else f"{text}, {self.bc}, correction={self.correction!r}"


def check_sizes(who: str, n_modes: int | Sequence[int], **channels: int) -> tuple[int, ...]:
    """Return the modes per axis; raise unless they and the channels are positive numbers."""
    given: Any = n_modes
    try:
        modes = tuple(operator.index(m) for m in given)
    except TypeError:
        modes = (_whole(who, "n_modes", given),)
    if not 1 <= len(modes) <= 3 or min(modes) < 1:
        raise ValueError(f"{who}: expected n_modes to be 1 to 3 positive numbers, got {n_modes}")
    for name, value in channels.items():
        if _whole(who, name, value) < 1:
            raise ValueError(f"{who}: expected {name} to be positive, got {value}")
    return modes


def _whole(who: str, name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{who}: expected {name} to be integers, got {value!r}") from None


def check_boundary(boundary: BoundaryConditions, axes: int, corner: Corner, who: str) -> None:
    """Raise unless the conditions are on edges of a field of so many axes."""
    check_conditions(boundary, who, "boundary")
    check_corner(boundary, corner)
    if boundary.n_axes > axes:
        raise ValueError(
            f"{who}: expected boundary to have conditions on {axes} axes like n_modes, got "
            f"{boundary}"
        )


_Found: TypeAlias = dict[tuple[int, ...], list[Tensor | None]]


class _GainCache:
    """Gains of one state of one weight tensor, by the sizes of the field."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._entry: tuple[weakref.ref[Tensor] | None, tuple[Any, ...], _Found] = (None, (), {})

    def get(self, weight: Tensor, sizes: tuple[int, ...], make: Any) -> list[Tensor | None]:
        version = 0 if weight.is_inference() else weight._version
        state = (version, weight.data_ptr(), weight.dtype, weight.device, _bits(weight))
        owner, known, found = self._entry  # in one piece: threads may share the layer
        if owner is None or owner() is not weight or known != state:
            found = {}
            self._entry = (weakref.ref(weight), state, found)
        gains = found.get(sizes)
        if gains is None:
            gains = found[sizes] = make()
        return gains

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> _GainCache:
        return _GainCache()


def _bits(weight: Tensor) -> int:
    """Sum of the bits of a weight on the host: what ``.data`` changes behind its version shows."""
    plain = weight.detach()
    if type(plain) is not Tensor or plain.device.type != "cpu":
        return 0
    # A complex number at a time where memory allows.
    aligned = plain.is_contiguous() and plain.storage_offset() % 2 == 0
    size = plain.element_size() * (2 if aligned else 1)
    return int(plain.view({2: torch.int16, 4: torch.int32}.get(size, torch.int64)).sum())


def _convert_weights(
    module: SpectralConv, state: dict[str, Any], prefix: str, *unused: object
) -> None:
    """Convert complex weights of common layouts to the one of this layer."""
    dims = len(module.n_modes)
    own = f"{prefix}weight"
    parts = [f"{prefix}weights{k + 1}" for k in range(2 ** (dims - 1))]
    if all(part in state for part in parts):
        state[own] = _join_corners([state.pop(part) for part in parts], dims)
        return
    dense = f"{prefix}weight.tensor"
    if dense in state:
        state[own] = state.pop(dense)
    value = state.get(own)
    if isinstance(value, Tensor) and value.is_complex():
        # The signed axes run from the lowest to the highest wavenumber.
        shifted = torch.fft.ifftshift(value, dim=tuple(range(2, dims + 1))) if dims > 1 else value
        state[own] = _mode_major(shifted)


def _join_corners(corners: list[Tensor], dims: int) -> Tensor:
    """Join blocks of non-negative and negative wavenumbers; the first axis alternates fastest."""
    blocks = [torch.view_as_complex(c) if not c.is_complex() else c for c in corners]
    for axis in range(dims - 1):
        pairs = zip(blocks[::2], blocks[1::2], strict=True)
        blocks = [torch.cat(pair, 2 + axis) for pair in pairs]
    return _mode_major(blocks[0])


def _mode_major(weight: Tensor) -> Tensor:
    """Return ``(in, out, *modes)`` complex as ``(*modes, in, out, 2)`` real."""
    return torch.view_as_real(weight.movedim((0, 1), (-2, -1)).contiguous())
