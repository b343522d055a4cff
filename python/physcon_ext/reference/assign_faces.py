# SPDX-License-Identifier: Apache-2.0
"""Reference of ``physcon::assign_faces``: one face after the other, float64 inside."""

from collections.abc import Sequence

import torch
from torch import Tensor


def assign_faces(
    u: Tensor, values: Sequence[Tensor | None], stencils: Sequence[Tensor | None]
) -> Tensor:
    r"""Assign the end points of the last axes: data plus a stencil of the points inwards.

    .. math:: u'_{face} = g_{face} + \sum_{j=0}^{q} s_j\, u^{(j)}, \qquad
              u^{(j)} = \text{the value } j \text{ points inwards}

    Args:
        u: ``(*batch, C, N_1..N_d)``; ``d`` is the length of ``values``.
        values: Per axis ``g``, ``(*batch or 1s, C or 1, 2, *tangential sizes or 1s)``, or None.
        stencils: Per axis ``s``, ``(2, q + 1)``, first and last face; None where values are None.

    Returns:
        A new tensor of the shape and dtype of ``u``. Axes in order: later ones own the corners.

    Example:
        >>> faces = torch.tensor([[[1.0, 2.0]]])
        >>> assign_faces(torch.zeros(1, 1, 4), [faces], [torch.zeros(2, 1)])
        tensor([[[1., 0., 0., 2.]]])
    """
    dims = len(values)
    for axis, (value, stencil) in enumerate(zip(values, stencils, strict=True)):
        if value is None or stencil is None:
            continue
        at = u.ndim - dims + axis
        points = u.shape[at]
        faces = []
        for end in range(2):
            face = value.select(u.ndim - dims, end)
            if stencil[end].any():
                lines = [
                    s * u.select(at, points - 1 - j if end else j).double()
                    for j, s in enumerate(stencil[end].double())
                ]
                face = (face.double() + sum(lines)).to(u.dtype)
            faces.append(face.expand_as(u.select(at, 0)).unsqueeze(at))
        u = torch.cat([faces[0], u.narrow(at, 1, points - 2), faces[1]], dim=at)
    return u
