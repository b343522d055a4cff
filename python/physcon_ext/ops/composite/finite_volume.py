# SPDX-License-Identifier: Apache-2.0
"""Finite-volume steps in torch operations: the whole batch at a time, compensated like the kernels.

These two read numbers back to the host, unlike the composites of the differentiable ops: how many
steps to take, and whether Newton's method has converged.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from physcon_ext.reference.balance_law import (
    AVERAGES,
    DIFFUSIVITIES,
    EDGE_KINDS,
    INTEGRATORS,
    RECONSTRUCTIONS,
    TRANSPORTS,
    EdgeTable,
    Method,
    Solver,
)
from physcon_ext.reference.cavity import march


_NEWTON_LIMIT = 60


def balance_law(
    state: Tensor,
    spacing: Tensor,
    speed: Tensor,
    diffusion: Tensor,
    inner_low: Tensor,
    inner_high: Tensor,
    outer_low: Tensor,
    outer_high: Tensor,
    edge_weights: Tensor,
    shapes: Tensor,
    amplitudes: Tensor,
    dt: Tensor,
    steps: Tensor,
    choices: Tensor,
    stages: int,
) -> tuple[Tensor, ...]:
    """Take the steps; cells and flux integrals carry their rounding rests along."""
    transport, scheme, diffusivity, average, integrator, *kinds = choices.tolist()
    method = Method(
        transport=TRANSPORTS[transport],
        scheme=RECONSTRUCTIONS[scheme],
        diffusivity=DIFFUSIVITIES[diffusivity],
        average=AVERAGES[average],
        integrator=INTEGRATORS[integrator],
        stages=stages,
    )
    tables = (inner_low, inner_high, outer_low, outer_high)
    edges = [
        EdgeTable(EDGE_KINDS[kind], table, a, b)
        for kind, table, (a, b) in zip(kinds, tables, edge_weights.tolist(), strict=True)
    ]
    has_source = shapes.shape[1] > 0
    solver = _NewtonSolver(
        method,
        spacing.tolist(),
        speed,
        diffusion,
        edges,
        shapes if has_source else None,
        amplitudes if has_source else None,
    )
    verlet = method.integrator == "verlet"
    batch, _, _, rows, n = state.shape
    u, low = state[:, 0, 0], state[:, 0, 1]
    w, w_low = (state[:, 1, 0], state[:, 1, 1]) if verlet else (u, low)
    sums = [
        state.new_zeros(batch, rows, n + 1),
        state.new_zeros(batch, rows + 1 if rows > 1 else 0, n),
        state.new_zeros(batch, shapes.shape[1]),
    ]
    rests = [torch.zeros_like(s) for s in sums]
    for step in range(int(steps.max()) if batch else 0):
        active = (step < steps).to(u.dtype) * dt  # a finished item takes steps of no length
        moved, _, mean = solver.advance(u, w, step, active)
        change = active[:, None, None] * solver.change(mean)
        if verlet:
            u, (w, w_low) = moved, _add(w, w_low, change)
        else:
            u, low = _add(u, low, change)
            w = u
        for i, rate in enumerate(mean):
            scaled = active.reshape(-1, *[1] * (rate.ndim - 1)) * rate
            sums[i], rests[i] = _add(sums[i], rests[i], scaled)
    fields = [(u, low), (w, w_low)] if verlet else [(u, low)]
    out = torch.stack([torch.stack(pair, 1) for pair in fields], 1)
    info = torch.zeros_like(steps, dtype=torch.int32) + solver.failures
    return (out, *sums, info)


def _add(high: Tensor, low: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """``high + low + change`` with the rounding error of the sum in ``low`` (Knuth's two-sum)."""
    y = change + low
    total = high + y
    back = total - high
    return total, (high - (total - back)) + (y - back)


class _NewtonSolver(Solver):
    """Implicit stages by Newton's method, the tridiagonal systems by cyclic reduction."""

    failures: Tensor | int = 0  # of every item

    def solve(self, target: Tensor, c: Tensor, step: int, stage: int) -> Tensor:
        """Solve ``v = target + c M(v)``: one dimension, diffusion alone, integral average."""
        h = self.spacing[0]
        ratio = c[:, 0] / (h * h)
        v = target
        for _ in range(_NEWTON_LIMIT):
            residual, tolerance = self._residual(v, target, c, step, stage)
            if not bool((residual.abs().amax(-1) > tolerance).any()):
                return v
            below, diagonal, above = self._jacobian(v, ratio, step, stage)
            cyclic = self.edges[0].kind == "periodic"
            solve = _solve_cyclic if cyclic else _solve_tridiagonal
            wrong = (residual.abs().amax(-1) > tolerance)[:, None]
            # Converged items stay as they are: an item never depends on the others.
            change = solve(below, diagonal, above, residual)
            v = v + torch.where(wrong, change, 0.0)[:, None]
        residual, tolerance = self._residual(v, target, c, step, stage)
        failed = residual.abs().amax(-1) > 1e4 * tolerance
        self.failures = self.failures + failed.int()
        return v

    def _residual(
        self, v: Tensor, target: Tensor, c: Tensor, step: int, stage: int
    ) -> tuple[Tensor, Tensor]:
        """Residual and the size that the rounding of its fluxes gives it."""
        rates = self.rates(v, step, stage, c[:, 0, 0])
        residual = (target - v + c * self.change(rates))[:, 0]
        spread = (c / self.spacing[0] ** 2 * self.k(v)).amax((1, 2))
        return residual, 2e-15 * v.abs().amax((1, 2)) * (1 + 4 * spread)

    def _jacobian(
        self, v: Tensor, ratio: Tensor, step: int, stage: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Bands of the derivative of ``v - c M(v)``; in a ring the corners sit at the ends."""
        k = ratio * self.k(v)[:, 0]
        left, right = k.roll(1, -1), k.roll(-1, -1)  # of the neighbours
        if self.edges[0].kind == "periodic":
            return -left, 1 + 2 * k, -right
        inside = torch.ones_like(k)
        inside[:, 0] = 0
        diagonal = 1 + k * inside + k * inside.flip(-1)
        below, above = -left * inside, -right * inside.flip(-1)
        bands = (diagonal, above, below)
        for place, (cell, next_, band) in enumerate(((0, 1, above), (-1, -2, below))):
            self._edge_slopes(place, v[:, 0], ratio[:, 0], step, stage, bands[0], band, cell, next_)
        return below, diagonal, above

    def _edge_slopes(
        self,
        place: int,
        v: Tensor,
        ratio: Tensor,
        step: int,
        stage: int,
        diagonal: Tensor,
        band: Tensor,
        cell: int,
        next_: int,
    ) -> None:
        """Add the derivatives of the outward edge flux, times c/h, to the row of the edge cell."""
        e, h = self.edges[place], self.spacing[0]

        def k(x: Tensor) -> Tensor:
            return self.k(x[:, None, None])[:, 0, 0]

        if e.kind == "value":
            diagonal[:, cell] += 3.5 * ratio * k(v[:, cell])
            band[:, cell] -= 0.5 * ratio * k(v[:, next_])
        elif e.kind == "mixed":
            g = self.edge_data(place, step, stage, 1, v.shape[0])[:, 0]
            w = self.face_value(e, g, v[:, cell], v[:, next_], h)
            slope = ratio * k(w) * e.a / (e.a + 3 * e.b / h)
            diagonal[:, cell] += 3.5 * slope
            band[:, cell] -= 0.5 * slope


def _solve_tridiagonal(below: Tensor, diagonal: Tensor, above: Tensor, *right: Tensor) -> Tensor:
    """Solve ``(batch, n)`` systems by parallel cyclic reduction (Hockney and Jesshope 1981).

    Several right-hand sides are solved together and stacked along a new first axis.
    """
    a, b, c, d = below, diagonal, above, torch.stack(right)
    n, step = b.shape[-1], 1

    def before(x: Tensor, fill: float) -> Tensor:
        return torch.nn.functional.pad(x[..., :-step], (step, 0), value=fill)

    def after(x: Tensor, fill: float) -> Tensor:
        return torch.nn.functional.pad(x[..., step:], (0, step), value=fill)

    while step < n:
        low, high = a / before(b, 1.0), c / after(b, 1.0)
        b = b - low * before(c, 0.0) - high * after(a, 0.0)
        d = d - low * before(d, 0.0) - high * after(d, 0.0)
        a, c = -low * before(a, 0.0), -high * after(c, 0.0)
        step *= 2
    found = d / b
    return found[0] if len(right) == 1 else found


def _solve_cyclic(below: Tensor, diagonal: Tensor, above: Tensor, right: Tensor) -> Tensor:
    """The same with corners ``below[0]`` and ``above[-1]`` (Sherman and Morrison 1950)."""
    gamma, low, high = -diagonal[:, :1], above[:, -1:], below[:, :1]
    inner = torch.zeros_like(diagonal[:, 2:])
    diagonal = diagonal - torch.cat([gamma, inner, low * high / gamma], -1)
    below = torch.cat([torch.zeros_like(high), below[:, 1:]], -1)
    above = torch.cat([above[:, :-1], torch.zeros_like(low)], -1)
    x, y = _solve_tridiagonal(below, diagonal, above, right, torch.cat([gamma, inner, low], -1))
    ratio = high / gamma
    factor = (x[:, :1] + ratio * x[:, -1:]) / (1 + y[:, :1] + ratio * y[:, -1:])
    return x - factor * y


def cavity(
    u: Tensor, v: Tensor, lid: Tensor, viscosity: Tensor, dt: Tensor, steps: Tensor
) -> tuple[Tensor, ...]:
    """Take the steps; the projection by cosine transforms as matrix products along both axes."""
    n = u.shape[-1]
    k = torch.arange(n, dtype=u.dtype, device=u.device)
    transform = torch.cos(math.pi / n * k[:, None] * (k + 0.5)) * (2 / n) ** 0.5
    transform = torch.where(k[:, None] == 0, n**-0.5, transform)  # orthogonal
    values = -4 * torch.sin(0.5 * math.pi / n * k) ** 2
    total = values[:, None] + values
    inverse = torch.where(total == 0, 0.0, 1 / torch.where(total == 0, 1.0, total))

    def poisson(divergence: Tensor) -> Tensor:
        modes = inverse * (transform @ divergence @ transform.mT)
        return transform.mT @ modes @ transform

    return tuple(march(u, v, lid, viscosity, dt, steps, poisson))
