# SPDX-License-Identifier: Apache-2.0
"""A Fourier neural operator whose output satisfies boundary conditions."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from physcon_ext.boundary import published
from physcon_ext.boundary.conditions import (
    BoundaryConditions,
    BoundaryValues,
    Outflow,
    Periodic,
    axis_of,
    by_edge,
)
from physcon_ext.boundary.conditions import (
    boundary_values as edge_values,
)
from physcon_ext.boundary.enforcement import (
    Corner,
    Grid,
    Rule,
    assign_rules,
    axis_points,
    boundary_rules,
    enforce,
    one_pass,
)
from physcon_ext.boundary.periods import Period
from physcon_ext.functional import Correction
from physcon_ext.nn.boundary import BoundaryLayer
from physcon_ext.nn.spectral_conv import SpectralConv, check_boundary, check_sizes
from physcon_ext.ops.fno_block import Activation


HiddenRule: TypeAlias = Literal["published", "unit", "none"]

_WHO = "FNO"
# Points of padding after the lifting along time, in the published space-time models.
_TIME_PADDING = {2: 9, 3: 6}


class FNO(nn.Module):
    r"""Fourier neural operator with boundary conditions.

    .. math:: h_0 = L(a), \qquad h_{l+1} = \sigma(K_l h_l + w_l h_l + b_l), \qquad u = C(Q(h_L))

    with pointwise ``L``, ``w`` and ``Q``, spectral convolutions ``K`` and the boundary correction
    ``C`` of the output.

    Args:
        n_modes: Non-negative wavenumbers kept per axis, as in `nn.SpectralConv`.
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        hidden_channels: Width.
        n_layers: Number of layers.
        lifting_channel_ratio: Width of the hidden layer of ``L`` over ``hidden_channels``; 0 makes
            it a single linear map.
        projection_channel_ratio: The same for ``Q``.
        positional_embedding: ``"grid"`` appends the coordinates, scaled to [0, 1], and sine and
            cosine along periodic axes; None appends nothing.
        boundary: Conditions at the edges.
        correction: ``"smooth"``: the output is conditioned on its boundary with a smooth
            covariance, trained through. ``"overwrite"``: the ends are assigned in every layer and
            at the output. ``"exact"``, ``"published"``: in addition the convolutions are corrected,
            see `functional.boundary_spectral_conv`. ``"none"``: the plain operator.
        boundary_channels: Append the data of every edge that takes some as input channels, one per
            output channel and edge, constant along the axis of the edge. Off for ``"published"``.
        period: As in `nn.SpectralConv`.
        ridge: As in `functional.boundary_spectral_conv`, for ``"exact"``.
        quirks: As in `functional.boundary_spectral_conv`, for ``"published"``.
        length: As in `nn.BoundaryLayer`, for ``"smooth"``.
        learn_length: As in `nn.BoundaryLayer`, for ``"smooth"``.
        hidden_rule: Ends of hidden layers, where they are assigned, the same in all channels; of
            several output channels the mean of the data counts. ``"published"``: twice the datum
            for Dirichlet, and for conditions with a derivative the rule on the halved layer (what
            correcting convolution and pointwise layer apart amounts to). ``"unit"``: the rule
            itself. ``"none"``: they are not assigned.
        corner: As in `boundary.enforce`.

    Raises:
        ValueError: If an option is unknown or a size is not positive.

    Notes:
        The output satisfies its conditions as `boundary.enforce` states, whatever the weights.
        The information in the data matters more than how the ends are enforced: keep
        ``boundary_channels``. Evaluate at any resolution; the stencils follow the grid.

    Example:
        >>> from physcon_ext.boundary import Dirichlet, Neumann
        >>> bc = BoundaryConditions(left=Dirichlet(), right=Neumann(0.0, order=1))
        >>> model = FNO((8,), 1, 1, 16, n_layers=2, boundary=bc)
        >>> u = model(torch.randn(3, 1, 64), {"left": torch.full((3, 1), 2.0)})
        >>> bool((u[..., 0] == 2).all()), bool(u[..., -1].allclose(u[..., -2]))
        (True, True)

    Good values: ``n_modes=(16,), hidden_channels=64`` in one dimension, ``(12, 12)`` and 32 in two;
    Adam at 1e-3 halved every 50 epochs; relative L2 loss.
    """

    def __init__(
        self,
        n_modes: int | Sequence[int],
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        n_layers: int = 4,
        lifting_channel_ratio: float = 2,
        projection_channel_ratio: float = 2,
        positional_embedding: Literal["grid"] | None = "grid",
        *,
        boundary: BoundaryConditions | None = None,
        correction: Correction = "smooth",
        boundary_channels: bool | None = None,
        period: Period = None,
        ridge: float = 0.1,
        quirks: Collection[str] | None = None,
        length: float | Sequence[float] | None = None,
        learn_length: bool = False,
        hidden_rule: HiddenRule = "published",
        corner: Corner = "priority",
    ) -> None:
        super().__init__()
        _check_options(n_layers, positional_embedding, correction, hidden_rule)
        modes = check_sizes(
            _WHO,
            n_modes,
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
        )
        for name, ratio in (
            ("lifting_channel_ratio", lifting_channel_ratio),
            ("projection_channel_ratio", projection_channel_ratio),
        ):
            if not 0.0 <= ratio < math.inf:
                raise ValueError(f"{_WHO}: expected {name} to be >= 0, got {ratio}")
        if boundary is not None:
            check_boundary(boundary, len(modes), corner, _WHO)
        self.dims = len(modes)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.bc = boundary
        self.correction: Correction = "none" if boundary is None else correction
        self.positional_embedding, self.hidden_rule = positional_embedding, hidden_rule
        self.corner = corner
        self.quirks: frozenset[str] = frozenset()
        if boundary is not None and self.correction == "published":
            self.quirks = frozenset(published.check_published(boundary, self.dims, quirks))
        wanted = self.correction != "published" if boundary_channels is None else boundary_channels
        self.channel_edges = _edges_with_data(boundary) if wanted else ()
        lifted = in_channels + len(self.channel_edges) * out_channels + self._n_coordinates()
        self.lifting = _pointwise(
            self.dims, lifted, hidden_channels, lifting_channel_ratio, hidden_channels
        )
        inner: Correction = self.correction if self.correction != "smooth" else "overwrite"
        self.convs = nn.ModuleList(
            SpectralConv(
                hidden_channels,
                hidden_channels,
                modes,
                boundary=boundary if self.correction != "none" else None,
                correction=inner,
                period=period,
                ridge=ridge,
                quirks=quirks,
                corner=corner,
            )
            for _ in range(n_layers)
        )
        kind = _CONVOLUTIONS[self.dims - 1]
        self.skips = nn.ModuleList(
            kind(hidden_channels, hidden_channels, 1) for _ in range(n_layers)
        )
        self.projection = _pointwise(
            self.dims, hidden_channels, out_channels, projection_channel_ratio, hidden_channels
        )
        self.output: BoundaryLayer | None = None
        if boundary is not None and self.correction == "smooth":
            self.output = BoundaryLayer(
                boundary, "smooth", length=length, learn_length=learn_length, corner=corner
            )

    def forward(
        self, x: Tensor, boundary_values: BoundaryValues | None = None, *, grid: Grid = None
    ) -> Tensor:
        """Map an input function to an output function.

        Args:
            x: ``(batch, in_channels, N_1..N_d)``, both ends of every axis included.
            boundary_values: Data by edge, see `boundary.boundary_values`, broadcasting to
                ``(batch, out_channels, *edge)``.
            grid: Points along the axes; equal spacing if not given.

        Returns:
            ``(batch, out_channels, N_1..N_d)``.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"{_WHO}: expected x to be a torch.Tensor, got {type(x).__name__}")
        if x.ndim != self.dims + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"{_WHO}: expected x to have shape (batch, {self.in_channels}, "
                f"{', '.join(f'N_{k + 1}' for k in range(self.dims))}), got {tuple(x.shape)}"
            )
        self._check_type(x)
        data = self._data(x, boundary_values)
        h = self.lifting(self._with_channels(x, data, grid))
        padding = self._time_padding()
        if padding:
            h = nn.functional.pad(h, (0, padding))
        hidden = {edge: _hidden_value(value, padding) for edge, value in data.items()}
        last = len(self.convs) - 1
        for k, (conv, skip) in enumerate(zip(self.convs, self.skips, strict=True)):
            fused = self._fused(conv, skip, h, hidden, grid, activate=k < last)
            if fused is None:
                fused = self._hidden(conv(h, assign=False) + skip(h), hidden, grid, k < last)
            h = fused
        if padding:
            h = h.narrow(-1, 0, x.shape[-1])
        u: Tensor = self.projection(h)
        return self._enforced(u, boundary_values, grid)

    def _fused(
        self,
        conv: nn.Module,
        skip: nn.Module,
        h: Tensor,
        data: dict[str, Tensor],
        grid: Grid,
        *,
        activate: bool,
    ) -> Tensor | None:
        """The layer in one op on the CPU, or None where it takes more than one."""
        if not isinstance(conv, SpectralConv) or not isinstance(skip, _CONVOLUTIONS):
            return None
        if not h.is_cpu or _is_watched(conv) or _is_watched(skip):
            return None
        matrix, bias = skip.weight.flatten(1).mT, skip.bias
        activation: Activation = "gelu" if activate else "none"
        if not self._assigns_hidden():
            return conv.block(h, matrix, bias, activation=activation)
        faces = self._hidden_faces(h, data, grid)
        if faces is None:
            u = conv.block(h, matrix, bias, activation="none")
            return u if u is None else self._hidden(u, data, grid, activate)
        values, stencils = faces
        return conv.block(h, matrix, bias, activation=activation, values=values, stencils=stencils)

    def _hidden_faces(
        self, h: Tensor, data: dict[str, Tensor], grid: Grid
    ) -> tuple[list[Tensor | None], list[Tensor | None]] | None:
        """Ends of a hidden layer as one op assigns them; None for rules on half the layer."""
        if self.bc is None or self.correction == "published":
            return None
        rules = boundary_rules(self.bc, h.shape[2:], grid, who=_WHO)
        doubled = self.hidden_rule == "published"
        if doubled and any(not rule.dirichlet for rule in rules.values()):
            return None
        scaled = {e: 2.0 * v if doubled else v for e, v in data.items()}
        return one_pass(h, self.bc, scaled, grid=grid, corner=self.corner)

    def _assigns_hidden(self) -> bool:
        plain = self.bc is None or self.correction in ("smooth", "none")
        return not plain and (self.hidden_rule != "none" or self.correction == "published")

    def _hidden(self, h: Tensor, data: dict[str, Tensor], grid: Grid, activate: bool) -> Tensor:
        """Assign the ends of a layer, then apply the activation off the ends."""
        if not self._assigns_hidden():
            return nn.functional.gelu(h) if activate else h
        assert self.bc is not None
        sizes = list(h.shape[2:])
        rules = boundary_rules(self.bc, sizes, grid, who=_WHO)
        if self.correction == "published":
            rules = published.published_rules(rules, self.quirks)
        doubled = self.correction == "published" or self.hidden_rule == "published"
        halve = doubled and any(not rule.dirichlet for rule in rules.values())
        if self.correction == "published":
            halve = halve and "halving" in self.quirks
        scaled = {e: 2.0 * v if doubled and rules[e].dirichlet else v for e, v in data.items()}
        h = self._assign_hidden(h / 2 if halve else h, scaled, rules, grid)
        if not activate:
            return h
        everywhere = self.correction == "published" and (self.dims == 1 or self.bc.is_periodic(0))
        if everywhere:
            return nn.functional.gelu(h)
        return torch.where(_ends(self.bc, sizes, h.device), h, nn.functional.gelu(h))

    def _assign_hidden(
        self, h: Tensor, data: dict[str, Tensor], rules: dict[str, Rule], grid: Grid
    ) -> Tensor:
        assert self.bc is not None
        if self.correction != "published":
            return enforce(h, self.bc, data, grid=grid, corner=self.corner, dtype=h.dtype)
        h = assign_rules(h, self.bc, data, rules, order=self.bc.edges)
        return published.after_assignment(h, self.bc, self.dims, self.quirks, layer=False)

    def _enforced(self, u: Tensor, values: BoundaryValues | None, grid: Grid) -> Tensor:
        if self.bc is None or self.correction == "none":
            return u
        if self.output is not None:
            fixed: Tensor = self.output(u, values, grid=grid)
            return fixed
        if self.correction != "published":
            return enforce(u, self.bc, values, grid=grid, corner=self.corner)
        rules = boundary_rules(self.bc, u.shape[2:], grid, who=_WHO)
        rules = published.published_rules(rules, self.quirks)
        u = assign_rules(u, self.bc, values, rules, order=self.bc.edges)
        return published.after_assignment(u, self.bc, self.dims, self.quirks, layer=False)

    def _time_padding(self) -> int:
        periodic = self.bc is not None and self.bc.is_periodic(0)
        if self.correction != "published" or periodic:
            return 0
        return _TIME_PADDING.get(self.dims, 0)

    def _n_coordinates(self) -> int:
        if self.positional_embedding is None:
            return 0
        return sum(2 if self._is_periodic(axis) else 1 for axis in range(self.dims))

    def _is_periodic(self, axis: int) -> bool:
        published_model = self.correction == "published"
        return self.bc is not None and not published_model and self.bc.is_periodic(axis)

    def _check_type(self, x: Tensor) -> None:
        conv = self.convs[0]
        own = conv.weight if isinstance(conv, SpectralConv) else x
        if not x.is_floating_point() or (
            x.dtype != own.dtype and not torch.is_autocast_enabled(x.device.type)
        ):
            raise TypeError(
                f"{_WHO}: expected x to be {own.dtype} like the parameters, got {x.dtype}; convert "
                f"one of them with .to, or use torch.autocast"
            )
        if x.device != own.device:
            raise ValueError(
                f"{_WHO}: expected x on {own.device} like the parameters, got {x.device}"
            )

    def _data(self, x: Tensor, values: BoundaryValues | None) -> dict[str, Tensor]:
        """Values of all edges that take some, as the edges of the output see them."""
        if self.bc is None or (self.correction == "none" and not self.channel_edges):
            if values is not None:
                by_edge(self.bc or BoundaryConditions(), values, _WHO)
            return {}
        like = x[:, :1].expand(-1, self.out_channels, *x.shape[2:])
        found = edge_values(self.bc, values, like, n_axes=self.dims, who=_WHO)
        return {e: v for e, v in found.items() if not isinstance(self.bc[e], Outflow)}

    def _with_channels(self, x: Tensor, data: dict[str, Tensor], grid: Grid) -> Tensor:
        batch, sizes = x.shape[0], x.shape[2:]
        parts = [x]
        for edge in self.channel_edges:
            value = data[edge].unsqueeze(2 + axis_of(edge))
            parts.append(value.expand(batch, self.out_channels, *sizes))
        if self.positional_embedding is not None:
            for axis, points in enumerate(axis_points(grid, self.dims, _WHO)):
                if points is not None and points.shape != (sizes[axis],):
                    raise ValueError(
                        f"{_WHO}: expected {sizes[axis]} grid points along axis {axis}, "
                        f"got shape {tuple(points.shape)}"
                    )
                shape = (1, 1, *(n if a == axis else 1 for a, n in enumerate(sizes)))
                for wave in self._coordinates(axis, points, sizes[axis], x):
                    parts.append(wave.reshape(shape).expand(batch, 1, *sizes))
        return torch.cat(parts, 1)

    def _coordinates(
        self, axis: int, points: Tensor | None, size: int, x: Tensor
    ) -> Sequence[Tensor]:
        if points is None:
            # Not linspace, which ties a traced graph to one size.
            steps = torch.arange(size, dtype=torch.float64, device=x.device)
            unit = (steps / max(size - 1, 1)).to(x.dtype)
        else:
            unit = ((points - points[0]) / (points[-1] - points[0])).to(x)
        if not self._is_periodic(axis):
            return [unit]
        return [torch.sin(2 * math.pi * unit), torch.cos(2 * math.pi * unit)]


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _is_watched(module: nn.Module) -> bool:
    """Whether hooks wait for the module to be called."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _pointwise(dims: int, inputs: int, outputs: int, ratio: float, width: int) -> nn.Module:
    """A linear map of the channels, or two with a GELU in between."""
    kind = _CONVOLUTIONS[dims - 1]
    hidden = round(ratio * width)
    if hidden == 0:
        return kind(inputs, outputs, 1)
    return nn.Sequential(kind(inputs, hidden, 1), nn.GELU(), kind(hidden, outputs, 1))


def _edges_with_data(bc: BoundaryConditions | None) -> tuple[str, ...]:
    if bc is None:
        return ()
    return tuple(edge for edge in bc.edges if not isinstance(bc[edge], (Periodic, Outflow)))


def _hidden_value(value: Tensor, padding: int) -> Tensor:
    """Datum of all channels of a hidden layer: the mean over those of the output."""
    value = value.mean(1, keepdim=True) if value.shape[1] > 1 else value
    return nn.functional.pad(value, (0, padding)) if padding and value.shape[-1] > 1 else value


def _ends(bc: BoundaryConditions, sizes: Sequence[int], device: torch.device) -> Tensor:
    """Mask of the points on edges that are assigned; periodic ends are points like others."""
    mask = torch.zeros(*sizes, dtype=torch.bool, device=device)
    for axis, n in enumerate(sizes):
        at = torch.zeros(n, dtype=torch.bool, device=device)
        for index, condition in zip((0, -1), bc.axis(axis), strict=True):
            if condition is not None and not isinstance(condition, Periodic):
                at[index] = True
        mask = mask | at.reshape(-1, *(1,) * (len(sizes) - 1 - axis))
    return mask


def _check_options(
    n_layers: int, positional_embedding: str | None, correction: str, hidden_rule: str
) -> None:
    if n_layers < 1:
        raise ValueError(f"{_WHO}: expected n_layers to be at least 1, got {n_layers}")
    for name, value, allowed in (
        ("positional_embedding", positional_embedding, ("grid", None)),
        ("correction", correction, get_args(Correction)),
        ("hidden_rule", hidden_rule, get_args(HiddenRule)),
    ):
        if value not in allowed:
            raise ValueError(f"{_WHO}: expected {name} to be one of {allowed}, got {value!r}")
