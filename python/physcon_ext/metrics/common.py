# SPDX-License-Identifier: Apache-2.0
"""What all metrics share: input checks, weighted means over points, the mean over items."""

from torch import Tensor

from physcon_ext.checks import check_dtype, common_shape


def checked(who: str, *, expand: bool = False, **tensors: Tensor) -> list[Tensor]:
    """Return the tensors in float64, on request expanded, after checking that they broadcast."""
    for name, tensor in tensors.items():
        check_dtype(who, name, tensor)
        if tensor.ndim == 0:
            raise ValueError(f"{who}: expected {name} to have at least one axis, got shape ()")
    shape = common_shape(*(t.shape for t in tensors.values()))
    if shape is None:
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in tensors.items())
        raise ValueError(f"{who}: expected shapes to broadcast, got {shapes}")
    return [t.double().expand(shape) if expand else t.double() for t in tensors.values()]


def check_one_of(who: str, name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise unless a keyword has one of its values."""
    if value not in allowed:
        raise ValueError(f"{who}: expected {name} to be one of {allowed}, got {value!r}")


def check_level(who: str, level: float) -> None:
    """Raise unless a probability is strictly between 0 and 1."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"{who}: expected level to be in (0, 1), got {level}")


def mean_over_points(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean over the last axis, weighted by cell volumes if given."""
    if weights is None:
        return values.mean(-1)
    w = weights.double()
    return (values * w).sum(-1) / w.sum(-1)


def finish(per_item: Tensor, reduce: bool, like: Tensor) -> Tensor:
    """Return the mean over items, or one value per item, in the dtype of the input."""
    return (per_item.mean() if reduce else per_item).to(like.dtype)
