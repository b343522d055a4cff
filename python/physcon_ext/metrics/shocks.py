# SPDX-License-Identifier: Apache-2.0
"""Position of a downward front in one-dimensional profiles."""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from physcon_ext.metrics.common import check_one_of, checked
from physcon_ext.metrics.scores import crps_ensemble


Detector = Literal["threshold", "largest_jump", "published"]


class ShockError(NamedTuple):
    """Error of sampled front positions: mean minus truth, standard deviation, fair CRPS."""

    bias: Tensor
    std: Tensor
    crps: Tensor


def shock_position(
    profile: Tensor, x: Tensor, *, detector: Detector = "threshold", level: float | None = None
) -> Tensor:
    """Return the position of the front of every profile.

    Args:
        profile: Values from high (left) to low (right), ``(..., n)``.
        x: Ascending positions of the values, ``(n,)``.
        detector: ``"threshold"``: the last downward crossing of the level, by linear
            interpolation; ``"largest_jump"``: the middle of the interval with the largest drop;
            ``"published"``: first index with a value <= 0, over n, times the last x (0 if there
            is none). The published one is biased to the left under independent noise and is
            there to compare with printed numbers only.
        level: Level of the threshold, usually half the jump. If not given, half-way between the
            largest and the smallest value of each profile.

    Returns:
        Positions, ``(...)``. A profile that never crosses the level has NaN.
    """
    check_one_of("shock_position", "detector", detector, get_args(Detector))
    (u,), (nodes,) = checked("shock_position", profile=profile), checked("shock_position", x=x)
    if nodes.ndim != 1 or nodes.shape[0] != u.shape[-1] or nodes.shape[0] < 2:
        raise ValueError(
            f"shock_position: expected x to have shape ({u.shape[-1]},) with at least 2 points, "
            f"got {tuple(x.shape)}"
        )
    if detector == "published":
        index = (u <= 0).to(torch.uint8).argmax(-1)
        found = index.double() / u.shape[-1] * nodes[-1]
    elif detector == "largest_jump":
        index = (u[..., :-1] - u[..., 1:]).argmax(-1)
        found = (nodes[index] + nodes[index + 1]) / 2
    else:
        found = _last_crossing(u, nodes, level)
    return found.to(profile.dtype)


def shock_error(positions: Tensor, truth: Tensor | float) -> ShockError:
    """Compare sampled positions ``(M, ...)`` with the true one, a number or ``(...)``."""
    (x,) = checked("shock_error", positions=positions)
    true = torch.as_tensor(truth, dtype=x.dtype, device=x.device)
    crps = crps_ensemble(x[..., None], true.expand(x.shape[1:])[..., None], reduce=False)
    spread = x.std(0) if x.shape[0] > 1 else torch.zeros_like(x[0])
    return ShockError(x.mean(0) - true, spread, crps)


def _last_crossing(u: Tensor, nodes: Tensor, level: float | None) -> Tensor:
    if level is None:
        cut = (u.amax(-1, keepdim=True) + u.amin(-1, keepdim=True)) / 2
    else:
        cut = torch.full_like(u[..., :1], level)
    left, right = u[..., :-1], u[..., 1:]
    down = (left >= cut) & (right < cut)
    count = torch.arange(1, left.shape[-1] + 1, device=u.device)
    index = (down * count).amax(-1) - 1  # -1: no crossing
    place = index.clamp(min=0)[..., None]
    a, b = left.gather(-1, place)[..., 0], right.gather(-1, place)[..., 0]
    found = index >= 0
    drop = torch.where(found, a - b, 1.0)
    share = (a - cut[..., 0]) / drop
    at = nodes[place[..., 0]] + share * (nodes[place[..., 0] + 1] - nodes[place[..., 0]])
    return torch.where(found, at, torch.nan)
