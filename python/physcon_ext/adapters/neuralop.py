# SPDX-License-Identifier: Apache-2.0
"""The corrected convolution inside the Fourier neural operators of the neuraloperator library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from physcon_ext.boundary.conditions import BoundaryConditions, BoundaryValues
from physcon_ext.boundary.enforcement import Grid, enforce
from physcon_ext.nn import BoundaryEnforced
from physcon_ext.nn import SpectralConv as _SpectralConv


_WHO = "adapters.neuralop.SpectralConv"


class SpectralConv(_SpectralConv):
    """`nn.SpectralConv` with the constructor and the call of ``neuralop``'s spectral convolution.

    Use it as ``FNO(..., conv_module=functools.partial(SpectralConv, boundary=bc))`` and wrap the
    model in `BoundaryOperator`: the library adds a skip, a norm and a nonlinearity after every
    convolution, so that only the wrapper makes the conditions hold at the output.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        n_modes: Modes per axis counted as the library does, both signs: an even number on all axes
            but the last, where ``n // 2 + 1`` non-negative wavenumbers are kept.
        complex_data: Must be False.
        max_n_modes: Must be None or ``n_modes``.
        bias: Add a learned constant per channel, before the ends are assigned.
        separable: Must be False.
        resolution_scaling_factor: Must be None.
        fno_block_precision: Must be ``"full"``.
        rank: Not used, as weights are dense.
        factorization: Must be None or ``"dense"``.
        implementation: Not used.
        fixed_rank_modes: Not used.
        decomposition_kwargs: Not used.
        init_std: ``"auto"`` or the standard deviation of the weights; those of
            `nn.SpectralConv` with ``init`` otherwise.
        fft_norm: Must be ``"forward"``, the default of the library.
        device: Of the weights.
        boundary: Conditions at the edges of every hidden layer.
        correction: As in `nn.SpectralConv`; ``"published"`` is not offered here.
        **options: Further options of `nn.SpectralConv`.

    Raises:
        ValueError: If an option asks for what this layer does not do.

    Notes:
        Dense weights stored by the library can be loaded. Padding of the domain moves the edges
        away from the ends of the axes: leave ``domain_padding`` off, the period is extended
        instead.

    Example:
        >>> from physcon_ext.boundary import Dirichlet
        >>> bc = BoundaryConditions(left=Dirichlet(1.0), right=Dirichlet(0.0))
        >>> layer = SpectralConv(2, 2, (8,), boundary=bc)
        >>> layer(torch.randn(3, 2, 32))[0, 0, 0].item()
        1.0
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_modes: int | Sequence[int],
        complex_data: bool = False,
        max_n_modes: int | Sequence[int] | None = None,
        bias: bool = True,
        separable: bool = False,
        resolution_scaling_factor: Any = None,
        fno_block_precision: str = "full",
        rank: float = 0.5,
        factorization: str | None = None,
        implementation: str = "reconstructed",
        fixed_rank_modes: Any = False,
        decomposition_kwargs: dict[str, Any] | None = None,
        init_std: float | str | None = None,
        fft_norm: str = "forward",
        device: torch.device | str | None = None,
        *,
        boundary: BoundaryConditions | None = None,
        correction: Any = "exact",
        **options: Any,
    ) -> None:
        modes = [n_modes] if isinstance(n_modes, int) else [int(n) for n in n_modes]
        most = [max_n_modes] if isinstance(max_n_modes, int) else max_n_modes
        for name, value, fits in (
            ("complex_data", complex_data, not complex_data),
            ("max_n_modes", max_n_modes, most is None or list(most) == modes),
            ("separable", separable, not separable),
            (
                "resolution_scaling_factor",
                resolution_scaling_factor,
                resolution_scaling_factor is None,
            ),
            ("fno_block_precision", fno_block_precision, fno_block_precision == "full"),
            ("factorization", factorization, factorization in (None, "dense", "Dense")),
            ("fft_norm", fft_norm, fft_norm == "forward"),
            ("correction", correction, correction != "published"),
        ):
            if not fits:
                raise ValueError(f"{_WHO}: expected {name} to be left alone, got {value!r}")
        if any(n % 2 for n in modes[:-1]):
            raise ValueError(
                f"{_WHO}: expected an even number of modes on all axes but the last, got {modes}"
            )
        kept = (*(n // 2 for n in modes[:-1]), modes[-1] // 2 + 1)
        super().__init__(
            in_channels,
            out_channels,
            kept,
            boundary=boundary,
            correction=correction,
            device=device,
            **options,
        )
        if init_std is not None:
            auto = (2 / (in_channels + out_channels)) ** 0.5
            with torch.no_grad():
                # Variance per complex number, as the library draws it.
                self.weight.normal_(0.0, (auto if init_std == "auto" else float(init_std)) / 2**0.5)
        shape = (out_channels, *(1,) * len(kept))
        self.bias = nn.Parameter(torch.zeros(shape, device=device)) if bias else None
        self.boundary_values: BoundaryValues | None = None

    def transform(self, x: Tensor, output_shape: Sequence[int] | None = None) -> Tensor:
        """Return the input of a skip connection on the grid of the output: the same grid."""
        if output_shape is not None and tuple(output_shape) != tuple(x.shape[2:]):
            raise ValueError(
                f"{_WHO}: expected output_shape to be the shape of the input "
                f"{tuple(x.shape[2:])}, got {tuple(output_shape)}"
            )
        return x

    def forward(  # type: ignore[override]
        self, x: Tensor, output_shape: Sequence[int] | None = None
    ) -> Tensor:
        """Convolve; the data of the edges are those set by `BoundaryOperator`."""
        x = self.transform(x, output_shape)
        y = super().forward(x, self.boundary_values, assign=False)
        y = y if self.bias is None else y + self.bias
        if self.bc is None or self.correction == "none":
            return y
        if self.smooth is not None:
            fixed: Tensor = self.smooth(y, self.boundary_values)
            return fixed
        return enforce(y, self.bc, self.boundary_values, corner=self.corner, dtype=y.dtype)


class BoundaryOperator(BoundaryEnforced):
    """`nn.BoundaryEnforced` that also hands the data of the edges to the convolutions inside.

    Args:
        model: A model with layers of this module's `SpectralConv`.
        bc: The conditions of the output.
        method: As in `nn.BoundaryEnforced`.
        **options: As in `nn.BoundaryEnforced`.

    Example:
        >>> from physcon_ext.boundary import Dirichlet
        >>> bc = BoundaryConditions(left=Dirichlet())
        >>> model = BoundaryOperator(SpectralConv(1, 1, (8,), boundary=bc), bc, "overwrite")
        >>> model(torch.randn(2, 1, 32), boundary_values={"left": 2.0})[0, 0, 0].item()
        2.0
    """

    def forward(
        self,
        *args: Any,
        boundary_values: BoundaryValues | None = None,
        grid: Grid = None,
        **kwargs: Any,
    ) -> Tensor:
        """Call the model with the data known to its layers; make the output satisfy them."""
        layers = [m for m in self.model.modules() if isinstance(m, SpectralConv)]
        for layer in layers:
            layer.boundary_values = boundary_values
        try:
            return super().forward(*args, boundary_values=boundary_values, grid=grid, **kwargs)
        finally:
            for layer in layers:
                layer.boundary_values = None
