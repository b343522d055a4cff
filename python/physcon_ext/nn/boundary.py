# SPDX-License-Identifier: Apache-2.0
"""Boundary conditions of the output of any model, as a layer that is trained through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from physcon_ext.boundary.conditions import (
    BoundaryConditions,
    BoundaryValues,
    check_conditions,
)
from physcon_ext.boundary.enforcement import Corner, Grid, check_corner, enforce
from physcon_ext.boundary.smooth import (
    KERNELS,
    Kernel,
    check_length,
    condition_on_boundary,
    default_length,
)


Method: TypeAlias = Literal["smooth", "overwrite"]

_WHO = "BoundaryEnforced"


class BoundaryLayer(nn.Module):
    """Make a field satisfy its boundary conditions.

    Args:
        bc: The conditions.
        method: ``"smooth"``: `boundary.condition_on_boundary`, whose correction decays into the
            domain. ``"overwrite"``: `boundary.enforce`, which changes the end points alone.
        length: Correlation length per axis, or one for all; the default of
            `boundary.condition_on_boundary` if not given.
        learn_length: Make the logarithm of the lengths a parameter, ``log_length``. It moves
            slowly at the learning rate of a network: give it one 10 to 30 times larger.
        kernel: As in `boundary.condition_on_boundary`.
        corner: As in `boundary.enforce`.

    Raises:
        TypeError: If ``bc`` are no conditions or a length is no number.
        ValueError: If an option is unknown or a length is not positive.

    Example:
        >>> from physcon_ext.boundary import Dirichlet
        >>> layer = BoundaryLayer(BoundaryConditions(left=Dirichlet()))
        >>> layer(torch.zeros(2, 1, 9), {"left": 1.0})[:, 0, 0]
        tensor([1., 1.])
    """

    log_length: Tensor | None

    def __init__(
        self,
        bc: BoundaryConditions,
        method: Method = "smooth",
        *,
        length: float | Sequence[float] | None = None,
        learn_length: bool = False,
        kernel: Kernel = "rbf",
        corner: Corner = "priority",
    ) -> None:
        super().__init__()
        check_conditions(bc, "BoundaryLayer")
        check_corner(bc, corner)
        if method not in get_args(Method):
            raise ValueError(
                f"BoundaryLayer: expected method to be one of {get_args(Method)}, got {method!r}"
            )
        if kernel not in KERNELS:
            raise ValueError(
                f"BoundaryLayer: expected kernel to be one of {KERNELS}, got {kernel!r}"
            )
        self.bc, self.method, self.kernel, self.corner = bc, method, kernel, corner
        self._first_length = _lengths(bc, length)
        blank = torch.empty(len(self._first_length))
        if method == "overwrite":
            self.register_parameter("log_length", None)
        elif learn_length:
            self.log_length = nn.Parameter(blank)
        else:
            self.register_buffer("log_length", blank)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the lengths to what the layer was made with."""
        if self.log_length is not None:
            with torch.no_grad():
                first = torch.tensor(self._first_length, dtype=torch.float64, device="cpu")
                self.log_length.copy_(first.log())

    def forward(
        self, u: Tensor, boundary_values: BoundaryValues | None = None, *, grid: Grid = None
    ) -> Tensor:
        """Return the field ``(batch, channels, *space)`` with its conditions met."""
        if self.log_length is None:
            return enforce(u, self.bc, boundary_values, grid=grid, corner=self.corner)
        axes = u.ndim - 2
        length = [one.exp() for one in self.log_length.double()[:axes]]
        return condition_on_boundary(
            u,
            self.bc,
            boundary_values,
            length=length,
            kernel=self.kernel,
            grid=grid,
            corner=self.corner,
        )

    def extra_repr(self) -> str:
        return f"{self.bc}, method={self.method!r}"


class BoundaryEnforced(nn.Module):
    """Any module, with boundary conditions on what it returns.

    Args:
        model: A module that returns a field ``(batch, channels, *space)``, or a tuple, list or
            dictionary with one among its entries.
        bc: The conditions.
        method: ``"smooth"`` or ``"overwrite"``, see `BoundaryLayer`. A model that was trained
            without the layer should be trained on with ``"smooth"``, and can take ``"overwrite"``
            as it is.
        channels: Output channels with these conditions; all if not given. Wrap again for others.
        output: Index or key of the field among several outputs of the model.
        pass_values: Pass ``boundary_values`` and ``grid`` on to the model, which must take them.
        **options: Further arguments of `BoundaryLayer`.

    Raises:
        TypeError: If ``bc`` are no conditions, or the model returns something else.
        ValueError: If an option or a channel is out of range.

    Example:
        >>> from physcon_ext.boundary import Dirichlet
        >>> bc = BoundaryConditions(left=Dirichlet(), right=Dirichlet(0.0))
        >>> model = BoundaryEnforced(torch.nn.Conv1d(1, 1, 3, padding=1), bc)
        >>> u = model(torch.randn(2, 1, 32), boundary_values={"left": torch.ones(2, 1)})
        >>> u[0, 0, [0, -1]].tolist()
        [1.0, 0.0]
    """

    def __init__(
        self,
        model: nn.Module,
        bc: BoundaryConditions,
        method: Method = "smooth",
        *,
        channels: Sequence[int] | None = None,
        output: int | str | None = None,
        pass_values: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.model = model
        self.boundary = BoundaryLayer(bc, method, **options)
        self.channels = None if channels is None else list(channels)
        if self.channels is not None and not 0 < len(self.channels) == len(set(self.channels)):
            raise ValueError(
                f"{_WHO}: expected channels to be at least one, each once, got {self.channels}"
            )
        self.output, self.pass_values = output, pass_values

    def forward(
        self,
        *args: Any,
        boundary_values: BoundaryValues | None = None,
        grid: Grid = None,
        **kwargs: Any,
    ) -> Any:
        """Call the model and return what it returns, the field with its conditions met."""
        if self.pass_values:
            kwargs = {**kwargs, "boundary_values": boundary_values, "grid": grid}
        found = self.model(*args, **kwargs)
        if self.output is None:
            return self._fixed(found, boundary_values, grid)
        try:
            field = found[self.output]
        except (TypeError, KeyError, IndexError):
            raise ValueError(
                f"{_WHO}: expected the model to return something with an entry {self.output!r}, "
                f"got {type(found).__name__}"
            ) from None
        return _replaced(found, self.output, self._fixed(field, boundary_values, grid))

    def _fixed(self, u: object, values: BoundaryValues | None, grid: Grid) -> Tensor:
        if not isinstance(u, Tensor):
            raise TypeError(
                f"{_WHO}: expected the model to return a torch.Tensor, got {type(u).__name__}; "
                f"of several outputs choose one with output="
            )
        if self.channels is None:
            fixed: Tensor = self.boundary(u, values, grid=grid)
            return fixed
        count = u.shape[1] if u.ndim > 1 else 0
        if not all(-count <= channel < count for channel in self.channels):
            raise ValueError(
                f"{_WHO}: expected channels among the {count} of the output, got {self.channels}"
            )
        index = torch.tensor([channel % count for channel in self.channels], device=u.device)
        part = self.boundary(u.index_select(1, index), values, grid=grid)
        return u.to(part.dtype).index_copy(1, index, part)


def _replaced(outputs: Any, place: int | str, field: Tensor) -> Any:
    """The same container with another field in one place."""
    if isinstance(outputs, Mapping):
        return {**outputs, place: field}
    entries = list(outputs)
    entries[int(place)] = field
    if hasattr(outputs, "_fields"):  # a tuple with names
        return type(outputs)(*entries)
    return entries if isinstance(outputs, list) else tuple(entries)


def _lengths(bc: BoundaryConditions, length: float | Sequence[float] | None) -> list[float]:
    axes = range(max(bc.n_axes, 1))
    if length is None:
        return [default_length(bc, axis) for axis in axes]
    found = list(length) if isinstance(length, Sequence) else [length] * len(axes)
    if len(found) != len(axes):
        raise ValueError(
            f"BoundaryLayer: expected one length or one for each of {len(axes)} axes, got {length}"
        )
    for one in found:
        check_length(one, "BoundaryLayer")
    return [float(one) for one in found]
