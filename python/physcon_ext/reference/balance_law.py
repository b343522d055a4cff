# SPDX-License-Identifier: Apache-2.0
"""Finite-volume steps in plain PyTorch: one step of the whole batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


TRANSPORTS = ("none", "linear", "burgers")
RECONSTRUCTIONS = ("godunov", "minmod", "van_leer", "mc", "weno5")
DIFFUSIVITIES = ("none", "constant", "power", "threshold")
AVERAGES = ("integral", "arithmetic", "harmonic", "modified", "shock")
INTEGRATORS = ("euler", "ssprk2", "ssprk3", "rkl2", "backward_euler", "tr_bdf2", "verlet")
EDGE_KINDS = ("periodic", "value", "mixed", "outflow", "flux")

Rates = list[Tensor]  # inner fluxes, outer fluxes, amplitudes of the sources


@dataclass(frozen=True)
class Method:
    """What is solved and how; the words are those of the tuples above.

    Attributes:
        transport: ``f``: none, ``a u``, or ``a u^2 / 2``.
        scheme: Reconstruction of face values.
        diffusivity: ``k(u)``.
        average: How ``k`` at a face comes from its two cells; ``shock`` follows the front of a
            threshold inside its cell (one dimension, front moving to the right).
        integrator: Time stepping; the implicit ones take one-dimensional diffusion alone.
        stages: Evaluations in one step of ``rkl2``, an odd number of at least 3.
    """

    transport: str = "none"
    scheme: str = "godunov"
    diffusivity: str = "none"
    average: str = "integral"
    integrator: str = "euler"
    stages: int = 9


@dataclass(frozen=True)
class EdgeTable:
    """Condition at one edge.

    Attributes:
        kind: One of ``EDGE_KINDS``: ``value`` u = g, ``mixed`` a u + b du/dn = g, ``flux`` F = g.
        values: ``g``, ``(batch or 1, steps or 1, stages or 1, along or 1)``.
        a: Weight of the value.
        b: Weight of the outward slope.
    """

    kind: str
    values: Tensor | None = None
    a: float = 1.0
    b: float = 0.0


class Advanced(NamedTuple):
    """State after the steps and what flowed meanwhile.

    Attributes:
        state: As the argument.
        inner_flux: ``(batch, rows, n + 1)``, integrated over the steps, along the axis.
        outer_flux: ``(batch, rows + 1, n)``; empty in one dimension.
        source: ``(batch, terms)``, amplitudes integrated over the steps.
        info: ``(batch,)`` int32, steps whose nonlinear solve did not converge.
    """

    state: Tensor
    inner_flux: Tensor
    outer_flux: Tensor
    source: Tensor
    info: Tensor


def stage_count(method: Method) -> int:
    """Return how many evaluations of the fluxes, at as many times, one step needs."""
    fixed = {"euler": 1, "ssprk2": 2, "ssprk3": 3, "backward_euler": 1, "tr_bdf2": 3, "verlet": 2}
    return fixed.get(method.integrator, method.stages)


def stage_times(method: Method) -> list[float]:
    """Return the times of the evaluations in units of the step."""
    if method.integrator == "rkl2":
        s = method.stages
        c = [(j * j + j - 2) / (s * s + s - 2) for j in range(s)]
        return [0.0, 4.0 / (3.0 * (s * s + s - 2)), *c[2:]]
    return {
        "euler": [0.0],
        "ssprk2": [0.0, 1.0],
        "ssprk3": [0.0, 1.0, 0.5],
        "backward_euler": [1.0],
        "tr_bdf2": [0.0, 2.0 - 2.0**0.5, 1.0],
        "verlet": [0.0, 1.0],
    }[method.integrator]


def balance_law(
    state: Tensor,
    *,
    method: Method,
    spacing: Sequence[float],
    speed: Tensor,
    diffusion: Tensor,
    edges: Sequence[EdgeTable],
    dt: Tensor,
    steps: Tensor,
    shapes: Tensor | None = None,
    amplitudes: Tensor | None = None,
) -> Advanced:
    """Take the steps; arguments and results as `physcon_ext.ops.balance_law`.

    Rounding rests are read and returned as zero: plain sums. The implicit methods take Newton
    steps with dense matrices; a front (``average="shock"``) is followed item by item.

    Example:
        >>> wave = torch.sin(torch.linspace(0, 6, 8, dtype=torch.float64))
        >>> state = torch.stack([wave, 0 * wave]).reshape(1, 1, 2, 1, 8)
        >>> speed = torch.ones(1, 2, dtype=torch.float64)
        >>> ends = [EdgeTable("periodic")] * 4
        >>> out = balance_law(
        ...     state, method=Method(transport="linear"), spacing=(1.0, 1.0), speed=speed,
        ...     diffusion=speed, edges=ends, dt=speed[:, 0], steps=torch.tensor([1]),
        ... )
        >>> torch.allclose(out.state[0, 0, 0, 0], wave.roll(1))  # one cell per step
        True
    """
    terms = 0 if shapes is None else shapes.shape[1]
    solver = Solver(method, spacing, speed, diffusion, edges, shapes, amplitudes)
    u = state[:, 0, 0] + state[:, 0, 1]
    w = state[:, 1, 0] + state[:, 1, 1] if method.integrator == "verlet" else u
    batch, rows, n = u.shape
    sums = [
        u.new_zeros(batch, rows, n + 1),
        u.new_zeros(batch, rows + 1 if rows > 1 else 0, n),
        u.new_zeros(batch, terms),
    ]
    for step in range(int(steps.max()) if batch else 0):
        active = (step < steps).to(u.dtype) * dt  # a finished item takes steps of no length
        u, w, mean = solver.advance(u, w, step, active)
        sums = [
            s + active.reshape(-1, *[1] * (m.ndim - 1)) * m for s, m in zip(sums, mean, strict=True)
        ]
    values = [u, w] if method.integrator == "verlet" else [u]
    out = torch.stack([torch.stack([v, torch.zeros_like(v)], 1) for v in values], 1)
    info = torch.zeros(batch, dtype=torch.int32)
    return Advanced(out, sums[0], sums[1], sums[2], info)


class Solver:
    """Right-hand sides and time steps of one call."""

    def __init__(
        self,
        method: Method,
        spacing: Sequence[float],
        speed: Tensor,
        diffusion: Tensor,
        edges: Sequence[EdgeTable],
        shapes: Tensor | None,
        amplitudes: Tensor | None,
    ) -> None:
        self.method, self.spacing, self.speed = method, spacing, speed
        self.parameter = diffusion[:, 0, None, None]
        self.threshold = diffusion[:, 1, None, None]
        self.edges, self.shapes, self.amplitudes = edges, shapes, amplitudes

    # Coefficients.

    def k(self, u: Tensor) -> Tensor:
        if self.method.diffusivity == "power":
            return u.clamp(min=0.0) ** self.parameter
        if self.method.diffusivity == "threshold":
            return torch.where(u >= self.threshold, self.parameter, 0.0)
        return self.parameter.expand_as(u)

    def primitive(self, u: Tensor) -> Tensor:
        if self.method.diffusivity == "power":
            return u.clamp(min=0.0) ** (self.parameter + 1) / (self.parameter + 1)
        if self.method.diffusivity == "threshold":
            return self.parameter * (u - self.threshold).clamp(min=0.0)
        return self.parameter * u

    def drop(self, left: Tensor, right: Tensor) -> Tensor:
        """Diffusive flux between two cells times their distance."""
        average = self.method.average
        if average in ("integral", "shock"):
            return self.primitive(left) - self.primitive(right)
        a, b = self.k(left), self.k(right)
        k = 0.5 * (a + b)
        if average != "arithmetic":
            harmonic = torch.where(a + b > 0, 2 * a * b / torch.where(a + b > 0, a + b, 1.0), 0.0)
            smooth = torch.minimum(a, b) >= 0.25 * torch.maximum(a, b)
            k = torch.where(smooth, harmonic, k) if average == "modified" else harmonic
        return k * (left - right)

    # Fluxes. `v` is (batch, lines, cells): the last axis is the one that is worked on.

    def edge_data(self, place: int, step: int, stage: int, lines: int, batch: int) -> Tensor:
        values = self.edges[place].values
        if values is None:
            return self.parameter.new_zeros(batch, lines)
        at = values[:, min(step, values.shape[1] - 1), min(stage, values.shape[2] - 1)]
        return at.expand(batch, lines)

    def line_fluxes(self, v: Tensor, axis: int, step: int, stage: int) -> Tensor:
        h, n = self.spacing[axis], v.shape[-1]
        low, high = self.edges[2 * axis], self.edges[2 * axis + 1]
        data = [self.edge_data(2 * axis + i, step, stage, v.shape[1], v.shape[0]) for i in (0, 1)]
        ends = [(low, data[0], v[..., 0], v[..., 1]), (high, data[1], v[..., -1], v[..., -2])]
        faces = [self.face_value(e, g, a, b, h) for e, g, a, b in ends]
        diffusive = self.method.diffusivity != "none"
        flux = v.new_zeros(*v.shape[:-1], n + 1)
        speed = self.speed[:, axis, None, None]
        if self.method.transport != "none":
            before = self.ghosts(v, low, faces[0], diffusive)
            after = self.ghosts(v.flip(-1), high, faces[1], diffusive).flip(-1)
            flux = self.transport_fluxes(torch.cat([before, v, after], -1), speed)
        if diffusive:
            flux = flux + torch.nn.functional.pad(self.drop(v[..., :-1], v[..., 1:]) / h, (1, 1))
        closed = []
        for i, (e, g, a, b) in enumerate(ends):
            face = flux[..., 0 if i == 0 else -1]
            w, sign = faces[i], -1.0 if i == 0 else 1.0
            if e.kind == "flux":
                face = g
            elif e.kind == "periodic":
                if diffusive:
                    face = face + self.drop(v[..., -1:], v[..., :1])[..., 0] / h
            elif diffusive and e.kind != "outflow":
                s = speed[..., 0]
                transported = {"none": 0 * w, "linear": s * w, "burgers": 0.5 * s * w * w}
                out = sign * self.outward(e, g, w, a, b, h)
                face = transported[self.method.transport] + out
            closed.append(face)
        return torch.cat([closed[0][..., None], flux[..., 1:-1], closed[1][..., None]], -1)

    @staticmethod
    def face_value(e: EdgeTable, g: Tensor, u0: Tensor, u1: Tensor, h: float) -> Tensor:
        if e.kind == "value":
            return g
        if e.kind == "mixed":
            # Parabola with face value w and averages u0, u1: outward slope (6w - 7u0 + u1)/(2h).
            return (g + e.b * (7 * u0 - u1) / (2 * h)) / (e.a + 3 * e.b / h)
        return u0

    def outward(
        self, e: EdgeTable, g: Tensor, w: Tensor, u0: Tensor, u1: Tensor, h: float
    ) -> Tensor:
        def of(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
            return function(x[..., None])[..., 0]

        if e.kind == "value":
            big = self.primitive
            return -(6 * of(big, w) - 7 * of(big, u0) + of(big, u1)) / (2 * h)
        return -of(self.k, w) * (g - e.a * w) / e.b

    @staticmethod
    def ghosts(v: Tensor, e: EdgeTable, w: Tensor, diffusive: bool) -> Tensor:
        """Three cells before the first one of `v`."""
        if e.kind == "periodic":
            return v[..., -3:]
        if e.kind in ("outflow", "flux"):
            return v[..., :1].expand(*v.shape[:-1], 3)
        if not diffusive:
            return w[..., None].expand(*v.shape[:-1], 3)
        return 2 * w[..., None] - v[..., :3].flip(-1)

    def transport_fluxes(self, v: Tensor, speed: Tensor) -> Tensor:
        """Fluxes of all faces from cells with three ghosts at either end."""
        windows = v.unfold(-1, 6, 1)  # the cells around each face
        left = reconstruct(self.method.scheme, windows[..., :5])
        right = reconstruct(self.method.scheme, windows.flip(-1)[..., :5])
        if self.method.transport == "linear":
            return speed * torch.where(speed < 0, right, left)
        left, right = (
            torch.where(speed < 0, right, left).clamp(min=0.0),
            torch.where(speed < 0, left, right).clamp(max=0.0),
        )
        return 0.5 * speed * torch.maximum(left**2, right**2)

    # Rates and steps.

    def rates(self, u: Tensor, step: int, stage: int, dt: Tensor) -> Rates:
        inner = self.line_fluxes(u, 0, step, stage)
        if self.method.average == "shock":
            inner = self.front_fluxes(u, inner, step, stage, dt)
        outer = u.new_zeros(u.shape[0], 0, u.shape[2])
        if u.shape[1] > 1:
            outer = self.line_fluxes(u.mT, 1, step, stage).mT
        amplitude = u.new_zeros(u.shape[0], 0)
        if self.amplitudes is not None:
            s = self.amplitudes.shape
            amplitude = self.amplitudes[:, min(step, s[1] - 1), min(stage, s[2] - 1)]
        return [inner, outer, amplitude]

    def front_fluxes(self, u: Tensor, flux: Tensor, step: int, stage: int, dt: Tensor) -> Tensor:
        """Replace the fluxes from the cell with the front on: nothing ahead, a line behind."""
        flux, h, n = flux.clone(), self.spacing[0], u.shape[-1]
        entry = self.edge_data(0, step, stage, 1, u.shape[0])[:, 0]
        for b in range(u.shape[0]):
            v, k, u_star = u[b, 0], self.parameter[b, 0, 0], self.threshold[b, 0, 0]
            g, fixed = entry[b], self.edges[0].kind == "value"
            for c in range(n):
                if c == 0:
                    theta = 2 * v[0] / (g + u_star) if fixed else (v[0] / u_star).clamp(max=1.0)
                else:
                    total, linear = v[c - 1] + u_star, 2 * v[c] - u_star
                    theta = (linear + (linear**2 + 4 * total * v[c]).sqrt()) / (2 * total)
                if theta < 1:
                    break
            else:
                continue
            flux[b, 0, c + 1 :] = 0.0
            if c > 0:
                flux[b, 0, c] = k * (v[c - 1] - u_star) / ((0.5 + theta) * h)
            elif fixed and dt[b] > 0:
                rise = 4 * k * (g - u_star).clamp(min=0.0) / ((g + u_star) * h * h)
                grown = (theta**2 + rise * dt[b]).sqrt()
                flux[b, 0, 0] = (grown - theta) * 0.5 * (g + u_star) * h / dt[b]
        return flux

    def change(self, r: Rates) -> Tensor:
        """Time derivative of the cells."""
        result = -r[0].diff(dim=-1) / self.spacing[0]
        if r[1].shape[1]:
            result = result - r[1].diff(dim=-2) / self.spacing[1]
        if self.shapes is not None:
            result = result + torch.einsum("bt,btrn->brn", r[2], self.shapes)
        return result

    def advance(self, u: Tensor, w: Tensor, step: int, dt: Tensor) -> tuple[Tensor, Tensor, Rates]:
        """Take one step; return both fields and the rates that made it."""
        d = dt[:, None, None]

        def rates(v: Tensor, stage: int) -> Rates:
            return self.rates(v, step, stage, dt)

        def at(r: Rates, c: float = 1.0) -> Tensor:
            return u + c * d * self.change(r)

        name = self.method.integrator
        if name == "verlet":
            first = rates(u, 0)
            half = w + 0.5 * d * self.change(first)
            u = u + d * half
            second = rates(u, 1)
            return u, half + 0.5 * d * self.change(second), blend((0.5, first), (0.5, second))
        if name == "euler":
            mean = rates(u, 0)
        elif name == "ssprk2":
            a = rates(u, 0)
            mean = blend((0.5, a), (0.5, rates(at(a), 1)))
        elif name == "ssprk3":
            a = rates(u, 0)
            b = rates(at(a), 1)
            c = rates(at(blend((1.0, a), (1.0, b)), 0.25), 2)
            mean = blend((1 / 6, a), (1 / 6, b), (2 / 3, c))
        elif name == "rkl2":
            mean = self.legendre(u, rates, at)
        elif name == "backward_euler":
            mean = rates(self.solve(u, d, step, 0), 0)
        else:
            g, w2 = 1 - 0.5**0.5, 0.125**0.5
            a = rates(u, 0)
            b = rates(self.solve(at(a, g), g * d, step, 1), 1)
            start = blend((w2, a), (w2, b))
            c = rates(self.solve(at(start), g * d, step, 2), 2)
            mean = blend((1.0, start), (g, c))
        return at(mean), w, mean

    def legendre(
        self, u: Tensor, rates: Callable[[Tensor, int], Rates], at: Callable[[Rates], Tensor]
    ) -> Rates:
        """RKL2 of Meyer, Balsara and Aslam (2014), eqs. 16 to 18, on the rates."""
        s = self.method.stages
        b = [1 / 3] * 3 + [(j * j + j - 2) / (2 * j * (j + 1)) for j in range(3, s + 1)]
        width = 4 / (s * s + s - 2)
        first = rates(u, 0)
        older, newer = blend((0.0, first)), blend((b[1] * width, first))
        for j in range(2, s + 1):
            mu, nu = (2 * j - 1) / j * b[j] / b[j - 1], -(j - 1) / j * b[j] / b[j - 2]
            m = mu * width
            now = rates(at(newer), j - 1)
            following = blend((mu, newer), (nu, older), (m, now), (-(1 - b[j - 1]) * m, first))
            older, newer = newer, following
        return newer

    def solve(self, target: Tensor, c: Tensor, step: int, stage: int) -> Tensor:
        """Solve ``v = target + c M(v)`` by Newton's method with dense Jacobians."""

        def residual(v: Tensor) -> Tensor:
            return target + c * self.change(self.rates(v, step, stage, c[:, 0, 0])) - v

        v = target
        for _ in range(50):
            missing = residual(v)
            if float(missing.abs().max()) <= 1e-15 * float(v.abs().max()):
                break
            with torch.enable_grad():
                x = v.detach().requires_grad_()
                y = residual(x)[:, 0]
                rows = [
                    torch.autograd.grad(y[:, i].sum(), x, retain_graph=True)[0][:, 0]
                    for i in range(y.shape[-1])
                ]
            v = v - torch.linalg.solve(torch.stack(rows, 1), missing[:, 0])[:, None]
        return v


def blend(*parts: tuple[float, Rates]) -> Rates:
    """Linear combination of rates."""
    columns = zip(*(r for _, r in parts), strict=True)
    return [
        torch.stack([c * x for (c, _), x in zip(parts, column, strict=True)]).sum(0)
        for column in columns
    ]


def reconstruct(scheme: str, cells: Tensor) -> Tensor:
    """Value at the face between the third and the fourth of five cells, from the third's side.

    Limited slopes: van Leer (1979). ``weno5``: weights of Borges et al. (2008), power 2.
    """
    v0, v1, v2, v3, v4 = cells.unbind(-1)
    if scheme == "godunov":
        return v2
    if scheme == "weno5":
        polynomials = (
            (2 * v0 - 7 * v1 + 11 * v2) / 6,
            (5 * v2 - v1 + 2 * v3) / 6,
            (2 * v2 + 5 * v3 - v4) / 6,
        )
        rough = [
            13 / 12 * (v0 - 2 * v1 + v2) ** 2 + (v0 - 4 * v1 + 3 * v2) ** 2 / 4 + 1e-40,
            13 / 12 * (v1 - 2 * v2 + v3) ** 2 + (v1 - v3) ** 2 / 4 + 1e-40,
            13 / 12 * (v2 - 2 * v3 + v4) ** 2 + (3 * v2 - 4 * v3 + v4) ** 2 / 4 + 1e-40,
        ]
        gap = rough[0] - rough[2]
        weights = [d * (1 + (gap / r) ** 2) for d, r in zip((0.1, 0.6, 0.3), rough, strict=True)]
        top = sum((w * p for w, p in zip(weights, polynomials, strict=True)), 0 * v2)
        return top / sum(weights, 0 * v2)
    a, b = v2 - v1, v3 - v2
    low, high = torch.minimum(a.abs(), b.abs()), (a + b).abs()
    slope = {
        "minmod": low,
        "mc": torch.minimum(2 * low, high / 2),
        "van_leer": 2 * a.abs() * b.abs() / torch.where(high > 0, high, 1.0),
    }[scheme]
    return v2 + torch.where(a * b > 0, 0.5 * slope * b.sign(), 0.0)
