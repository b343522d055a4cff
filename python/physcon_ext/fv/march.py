# SPDX-License-Identifier: Apache-2.0
"""From a problem to a solution: checks, stable steps, and one call of the op per output interval.

Every sample takes steps of its own length, which follow from its own data, so that it comes out
the same in any batch. The loop over steps is inside the compiled op.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from physcon_ext import ops
from physcon_ext.boundary import BoundaryConditions
from physcon_ext.boundary.conditions import EDGES
from physcon_ext.checks import check_finite, common_shape
from physcon_ext.fv.edges import BoundEdge, bind_edges
from physcon_ext.fv.solution import Solution, SolverError
from physcon_ext.reference.balance_law import EdgeTable, Method, stage_times


Amplitude: TypeAlias = "float | Tensor | Callable[[Tensor], Tensor]"
Source: TypeAlias = "Sequence[tuple[Amplitude, Tensor]]"
Domain: TypeAlias = "tuple[float, float] | tuple[tuple[float, float], tuple[float, float]]"

SCHEMES = ("godunov", "minmod", "van_leer", "mc", "weno5")
IMPLICIT = ("backward_euler", "tr_bdf2")
_TVD = ("minmod", "van_leer", "mc")
# Courant numbers that are used unless another is given; 1 is the limit of the explicit methods.
_COURANT = {"godunov": 0.9, "minmod": 0.5, "van_leer": 0.5, "mc": 0.5, "weno5": 0.6}
_TABLE_STEPS = 256  # fixed: where the steps are cut must not depend on the batch
_CALL_STEPS = 65536
_MOST_TRIALS = 30


@dataclass(frozen=True)
class Law:
    """An equation in the form of the op.

    Attributes:
        who: Name of the public function, for messages.
        method: What is solved and how.
        speed: ``(batch, axes)`` in the order of the axes.
        diffusion: ``(batch, 2)``.
        nonnegative: Whether negative data make no sense.
    """

    who: str
    method: Method
    speed: Tensor
    diffusion: Tensor
    nonnegative: bool = False


@dataclass(frozen=True)
class Grid:
    """A uniform grid.

    Attributes:
        sizes: Cells along each axis.
        spacing: Cell width along each axis.
        faces: Positions of the faces along each axis.
    """

    sizes: tuple[int, ...]
    spacing: tuple[float, ...]
    faces: tuple[Tensor, ...]


@dataclass
class _State:
    """Where the march stands: the state of the op and the largest ``|u|`` of each sample."""

    core: Tensor
    largest: Tensor


def nearest(who: str, name: str, value: object, known: Sequence[str]) -> str:
    """Return a word if it is known; otherwise raise and suggest the nearest one."""
    if isinstance(value, str) and value in known:
        return value
    close = difflib.get_close_matches(str(value).lower(), known, 1, 0.4)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{who}: expected {name} to be one of {', '.join(known)}, got {value!r}{hint}")


def make_grid(who: str, domain: Domain, shape: torch.Size) -> Grid:
    """Check the domain and cut it into the cells of a field."""
    try:
        given: Any = domain if isinstance(domain[0], (tuple, list)) else [domain]
        pairs = [tuple(float(x) for x in p) for p in given]
        right = all(len(p) == 2 and p[0] < p[1] and all(map(math.isfinite, p)) for p in pairs)
    except (TypeError, ValueError, IndexError):
        right = False
    if not right or len(pairs) > 2:
        raise ValueError(
            f"{who}: expected domain to be (low, high) or ((x0, x1), (y0, y1)) with low < high, "
            f"got {domain!r}"
        )
    if len(shape) < len(pairs) or min(shape[len(shape) - len(pairs) :]) < 4:
        raise ValueError(
            f"{who}: expected u0 of shape (*batch, {'nx' if len(pairs) == 1 else 'nx, ny'}) with "
            f"at least 4 cells along each axis, got {tuple(shape)}"
        )
    sizes = tuple(shape[len(shape) - len(pairs) :])
    faces = tuple(
        torch.linspace(p[0], p[1], n + 1, dtype=torch.float64)
        for p, n in zip(pairs, sizes, strict=True)
    )
    spacing = tuple((p[1] - p[0]) / n for p, n in zip(pairs, sizes, strict=True))
    return Grid(sizes, spacing, faces)


def field(who: str, name: str, value: Tensor) -> Tensor:
    """Return a field in float64; raise unless it is a finite real tensor without gradient."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{who}: expected {name} to be a torch.Tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{who}: expected {name} to be a real floating tensor, got {value.dtype}")
    if value.device.type != "cpu":
        raise ValueError(
            f"{who}: expected {name} on the CPU, where the solvers run, got {value.device}; call "
            f"it with {name}.cpu()"
        )
    if value.requires_grad:
        raise ValueError(
            f"{who}: expected {name} without gradient: the solvers are not differentiable; "
            f"call it with {name}.detach()"
        )
    check_finite(who, name, value)
    return value.double()


def parameter(
    who: str, name: str, value: float | Tensor, batch: Sequence[int], *, low: float | None = None
) -> Tensor:
    """Return a parameter as ``(batch,)`` float64, one number per sample."""
    tensor = torch.as_tensor(value, dtype=torch.float64).detach()
    if common_shape(tensor.shape, batch) != torch.Size(batch):
        raise ValueError(
            f"{who}: expected {name} to be a number or to broadcast to the batch {tuple(batch)}, "
            f"got shape {tuple(tensor.shape)}"
        )
    check_finite(who, name, tensor)
    if low is not None and bool((tensor < low).any()):
        raise ValueError(f"{who}: expected {name} to be >= {low:g}, got {float(tensor.min())}")
    return tensor.expand(tuple(batch)).reshape(-1)


def march(
    law: Law,
    u0: Tensor,
    *,
    grid: Grid,
    times: Tensor | Sequence[float],
    bc: BoundaryConditions,
    source: Source | None = None,
    velocity: Tensor | None = None,
    cfl: float | None = None,
    dt: float | None = None,
) -> Solution:
    """Solve a problem; arguments as in the public functions, already checked by them."""
    run = _Run(law, u0, grid, times, bc, source, velocity, cfl, dt)
    return run.solve()


class _Run:
    """One solution in the making."""

    def __init__(
        self,
        law: Law,
        u0: Tensor,
        grid: Grid,
        times: Tensor | Sequence[float],
        bc: BoundaryConditions,
        source: Source | None,
        velocity: Tensor | None,
        cfl: float | None,
        dt: float | None,
    ) -> None:
        self.law, self.method, self.who, self.grid = law, law.method, law.who, grid
        self.dims = len(grid.sizes)
        self.batch = tuple(u0.shape[: u0.ndim - self.dims])
        self.items = math.prod(self.batch)
        self.times = check_times(self.who, times)
        self.edges = bind_edges(bc, self.batch, grid.sizes, self.who)
        self._check_kinds()
        self.shapes, self.amplitudes = self._sources(source)
        self.dt, self.cfl = dt, self._courant(cfl, dt)
        fields = [u0] if velocity is None else [u0, velocity]
        flat = torch.stack([self._core(f) for f in fields], 1)
        self.state = torch.stack([flat, torch.zeros_like(flat)], 2)
        if law.nonnegative and bool((u0 < 0).any()):
            raise ValueError(f"{self.who}: expected u0 to be >= 0, got {float(u0.min())}")

    # Axes. The inner axis of the op is the last axis of the field.

    def _core(self, u: Tensor) -> Tensor:
        rows = self.grid.sizes[0] if self.dims == 2 else 1
        return u.reshape(self.items, rows, self.grid.sizes[-1])

    def _core_edges(self) -> list[BoundEdge]:
        names = EDGES[:2] if self.dims == 1 else (*EDGES[2:4], *EDGES[:2])
        return [self.edges[name] for name in names]

    def _core_axes(self, per_axis: Sequence[float]) -> tuple[float, float]:
        return (per_axis[-1], per_axis[0])

    # Checks.

    def _check_kinds(self) -> None:
        diffuses = self.method.diffusivity != "none"
        for edge in self.edges.values():
            if edge.kind == "mixed" and not diffuses:
                raise ValueError(
                    f"{self.who}: expected Dirichlet, Outflow, Periodic or Flux at edge "
                    f"'{edge.name}', got a condition on the slope, which transport cannot obey"
                )
            h = self.grid.spacing[EDGES.index(edge.name) // 2]
            if edge.kind == "mixed" and not edge.a + 3 * edge.b / h > 0:
                raise ValueError(
                    f"{self.who}: expected Robin at edge '{edge.name}' with a + 3 b / h > 0, got "
                    f"a = {edge.a:g}, b = {edge.b:g}, h = {h:g}"
                )

    def _sources(self, source: Source | None) -> tuple[Tensor | None, list[Amplitude]]:
        if not source:
            return None, []
        if len(source) > 8:
            raise ValueError(f"{self.who}: expected at most 8 source terms, got {len(source)}")
        shapes, full = [], (*self.batch, *self.grid.sizes)
        for amplitude, shape in source:
            shape = field(self.who, "the shape of a source term", torch.as_tensor(shape))
            if common_shape(shape.shape, full) != torch.Size(full):
                raise ValueError(
                    f"{self.who}: expected the shape of a source term to broadcast to {full}, got "
                    f"{tuple(shape.shape)}"
                )
            shapes.append(self._core(shape.expand(full)))
            if not callable(amplitude):
                parameter(self.who, "the amplitude of a source term", amplitude, self.batch)
        return torch.stack(shapes, 1), [amplitude for amplitude, _ in source]

    def _courant(self, cfl: float | None, dt: float | None) -> float:
        if dt is not None and cfl is not None:
            raise ValueError(f"{self.who}: expected dt or cfl, got both")
        for name, value in (("dt", dt), ("cfl", cfl)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{self.who}: expected {name} to be finite and > 0, got {value}")
        implicit = self.method.integrator in IMPLICIT
        if cfl is None:
            if implicit:
                return 20.0
            return 0.9 if self.method.transport == "none" else _COURANT[self.method.scheme]
        if cfl > 1 and not implicit:
            raise ValueError(
                f"{self.who}: expected cfl <= 1, the stability limit of {self._words()}, got {cfl}"
            )
        return cfl

    def _words(self) -> str:
        m = self.method
        parts = [m.scheme] if m.transport != "none" else []
        parts += [f"{m.average} average"] if m.diffusivity in ("power", "threshold") else []
        return " with ".join([*parts, m.integrator])

    # Steps.

    def _rate(self, largest: Tensor) -> Tensor:
        """Inverse of the largest stable step of each sample.

        Forward Euler with monotone fluxes keeps every coefficient of its neighbours, and that of
        the cell itself, non-negative up to this step; the other explicit methods are convex
        combinations of such steps. A cell at an edge with a given value has the row 3, -4.5, 1.5 of
        the parabola through the face instead of 1, -2, 1; its largest eigenvalue is 5.06, not 4.
        """
        method, grid = self.method, self.grid
        rate = torch.zeros_like(largest)
        if method.transport != "none":
            for axis, h in enumerate(grid.spacing):
                rate = rate + self.law.speed[:, axis].abs() / h
            if method.transport == "burgers":
                rate = rate * largest
        if method.diffusivity == "none":
            return rate
        k = self.law.diffusion[:, 0]
        if method.diffusivity == "power":
            k = largest**k
        spectral = method.integrator in ("rkl2", "verlet")
        curvature = 0.0
        for axis, h in enumerate(grid.spacing):
            given = any(
                e.kind == "value" or (e.kind == "mixed" and e.a != 0)
                for e in (self.edges[EDGES[2 * axis]], self.edges[EDGES[2 * axis + 1]])
            )
            curvature += ((5.06 if given else 4.0) if spectral else (4.5 if given else 2.0)) / h**2
        if method.integrator == "verlet":
            return (k * curvature).sqrt() / 2  # dt^2 lambda <= 4
        if method.integrator == "rkl2":
            s = method.stages
            return k * curvature / 2 / ((s * s + s - 2) / 4)
        return rate + k * curvature

    def _count(self, span: float, rate: Tensor, courant: float) -> Tensor:
        """Steps of each sample through an interval."""
        wanted = (span * rate / courant * (1 - 1e-12)).ceil().clamp(min=1.0)
        if float(wanted.max()) > 1e12:
            raise ValueError(
                f"{self.who}: expected a solution that a stable step can follow, got a sample that "
                f"needs {float(wanted.max()):.3g} steps in one output interval"
            )
        return wanted.to(torch.int64)

    def _tables(
        self, start: float, dt: Tensor, first: int, count: int
    ) -> tuple[list[EdgeTable], Tensor | None]:
        """Edge values and source amplitudes at the stages of steps [first, first + count)."""
        nodes = torch.tensor(stage_times(self.method), dtype=torch.float64)
        steps = torch.arange(first, first + count, dtype=torch.float64)
        moments = start + (steps[:, None] + nodes) * dt[:, None, None]
        moments = moments.reshape(*self.batch, count, nodes.numel())
        tables = [edge.table(moments) for edge in self._core_edges()]
        if not self.amplitudes:
            return tables, None
        flat = moments.reshape(*self.batch, -1)
        columns = []
        for amplitude in self.amplitudes:
            if callable(amplitude):
                value = torch.as_tensor(amplitude(flat), dtype=torch.float64)
            else:
                value = torch.as_tensor(amplitude, dtype=torch.float64)[..., None]
            columns.append(value.expand(flat.shape).reshape(self.items, count, -1))
        return tables, torch.stack(columns, -1)

    def _advance(self, core: Tensor, start: float, span: float, count: Tensor) -> ops.Advanced:
        """Take ``count`` steps of equal length through an interval."""
        dt = span / count.to(torch.float64)
        varies = any(e.varies for e in self.edges.values()) or any(map(callable, self.amplitudes))
        chunk = _TABLE_STEPS if varies else _CALL_STEPS
        flows: list[Tensor] = []
        info = torch.zeros(self.items, dtype=torch.int32)
        for first in range(0, int(count.max()), chunk):
            steps = (count - first).clamp(0, chunk)
            tables, amplitudes = self._tables(start, dt, first, int(steps.max()) if varies else 1)
            out = ops.balance_law(
                core,
                method=self.method,
                spacing=self._core_axes(self.grid.spacing),
                speed=self.law.speed.flip(-1) if self.dims == 2 else self.law.speed.repeat(1, 2),
                diffusion=self.law.diffusion,
                edges=tables,
                dt=dt,
                steps=steps,
                shapes=self.shapes,
                amplitudes=self._stretched(amplitudes, steps),
            )
            core, info = out.state, info + out.info
            found = [out.inner_flux, out.outer_flux, out.source]
            flows = found if not flows else [a + b for a, b in zip(flows, found, strict=True)]
        return ops.Advanced(core, flows[0], flows[1], flows[2], info)

    def _stretched(self, amplitudes: Tensor | None, steps: Tensor) -> Tensor | None:
        if amplitudes is None or amplitudes.shape[1] > 1:
            return amplitudes
        return amplitudes.expand(-1, max(1, int(steps.max())), -1, -1)

    def _largest_value(self, start: float, span: float, count: Tensor) -> Tensor:
        """Largest prescribed ``|u|`` of each sample, at all stages and 33 times of an interval."""
        largest = torch.zeros(self.items, dtype=torch.float64)
        even = torch.linspace(start, start + span, 33, dtype=torch.float64)
        nodes = torch.tensor(stage_times(self.method), dtype=torch.float64)
        dt = (span / count.to(torch.float64))[:, None, None]
        for edge in self.edges.values():
            if edge.kind != "value":
                continue
            looks = [even.expand(self.items, -1)]
            for first in range(0, int(count.max()) if edge.varies else 0, _TABLE_STEPS):
                at = torch.arange(first, first + _TABLE_STEPS, dtype=torch.float64)[:, None] + nodes
                # A sample with fewer steps ends its interval before the table does.
                looks.append(start + (at * dt).clamp(max=span).flatten(1))
            for moments in looks:
                values = edge.at(moments.reshape(*self.batch, -1)).reshape(self.items, -1)
                largest = torch.maximum(largest, values.abs().amax(-1))
        return largest

    def _interval(self, state: _State, start: float, span: float) -> tuple[ops.Advanced, Tensor]:
        """Cross one interval with stable steps; return the result and the steps of each sample."""
        bound = state.largest
        grows = self.method.transport == "burgers" or self.method.diffusivity == "power"
        for _ in range(_MOST_TRIALS):
            count = self._steps(span, bound)
            if grows:
                met = torch.maximum(bound, self._largest_value(start, span, count))
                if bool((self._rate(met) > self._rate(bound)).any()):
                    bound = met
                    continue
            out = self._advance(state.core, start, span, count)
            self._check_result(out, start + span)
            if not grows or (self.dt is not None and self.method.integrator in IMPLICIT):
                return out, count
            # Growth inside the interval may have made the steps too long: take it again.
            met = torch.maximum(bound, _largest(out.state))
            fewest = span * self._rate(met) / max(1.0, self.cfl)
            short = count.to(torch.float64) * (1 + 1e-9) < fewest
            if not bool(short.any()):
                return out, count
            bound = torch.where(short, met, bound)
        raise SolverError(
            f"{self.who}: expected a bounded solution, but it grows without end near t = "
            f"{start + span:g}"
        )

    def _steps(self, span: float, bound: Tensor) -> Tensor:
        if self.dt is None:
            return self._count(span, self._rate(bound), self.cfl)
        count = self._count(span, torch.full_like(bound, 1 / self.dt), 1.0)
        limit = float(1 / self._rate(bound).max())
        used = span / float(count.min())
        if self.method.integrator not in IMPLICIT and used > limit * (1 + 1e-9):
            raise ValueError(
                f"{self.who}: expected dt <= {limit:.6g}, the stability limit of {self._words()} "
                f"on this grid, got {self.dt:g}"
            )
        return count

    def _check_result(self, out: ops.Advanced, time: float) -> None:
        bad = ~out.state[:, :, 0].flatten(1).isfinite().all(1)
        if bool(bad.any()):
            raise SolverError(
                f"{self.who}: expected a finite solution, got NaN or infinity in sample "
                f"{int(bad.nonzero()[0])} before t = {time:g}"
            )
        if bool((out.info > 0).any()):
            raise SolverError(
                f"{self.who}: expected Newton's method to converge within 60 iterations, got "
                f"{int(out.info.sum())} steps without before t = {time:g}; take smaller steps (cfl)"
            )

    # The march.

    def solve(self) -> Solution:
        state = _State(self.state, _largest(self.state))
        fields, counts = [state.core[:, :, 0]], []
        inner: list[Tensor] = []
        outer: list[Tensor] = []
        given: list[Tensor] = []
        moments = self.times.tolist()
        for start, end in zip(moments[:-1], moments[1:], strict=True):
            out, count = self._interval(state, start, end - start)
            state = _State(out.state, _largest(out.state))
            fields.append(out.state[:, :, 0])
            for store, amount in ((inner, out.inner_flux), (outer, out.outer_flux)):
                store.append(amount / (end - start))
            given.append(out.source / (end - start))
            counts.append(count)
        history = torch.stack(fields, 1)  # (items, nt, fields, rows, n)
        sizes, nt = self.grid.sizes, len(moments)
        cells = history[:, :, 0].reshape(*self.batch, nt, *sizes)
        flux = [_stacked(inner, self.batch, (*sizes[:-1], sizes[-1] + 1))]
        if self.dims == 2:
            flux.insert(0, _stacked(outer, self.batch, (sizes[0] + 1, sizes[1])))
        source = None
        if self.shapes is not None:
            means = torch.stack(given, 1)
            source = torch.einsum("bit,btrn->birn", means, self.shapes)
            source = source.reshape(*self.batch, nt - 1, *sizes)
        velocity = None
        if self.method.integrator == "verlet":
            velocity = history[:, :, 1].reshape(*self.batch, nt, *sizes)
        shared = self.times.expand(*self.batch, nt)
        values = {
            name: edge.at(shared).clone()
            for name, edge in self.edges.items()
            if edge.value is not None
        }
        return Solution(
            times=self.times,
            faces=self.grid.faces,
            cells=cells,
            flux=tuple(flux),
            source=source,
            values=values,
            traces={name: self._trace(edge, cells, values) for name, edge in self.edges.items()},
            steps=torch.stack(counts, -1).reshape(*self.batch, nt - 1),
            settings=self._settings(),
            velocity=velocity,
            front=self._front(cells, values) if self.method.diffusivity == "threshold" else None,
        )

    def _settings(self) -> dict[str, Any]:
        m = self.method
        settings: dict[str, Any] = {"integrator": m.integrator, "cfl": self.cfl, "dt": self.dt}
        if m.transport != "none":
            settings["scheme"] = m.scheme
        if m.diffusivity in ("power", "threshold"):
            settings["average"] = m.average
        if m.integrator == "rkl2":
            settings["stages"] = m.stages
        return settings

    def _trace(self, edge: BoundEdge, cells: Tensor, values: dict[str, Tensor]) -> Tensor:
        """Value of the solution on an edge."""
        axis = EDGES.index(edge.name) // 2
        place, upper = axis - self.dims, EDGES.index(edge.name) % 2
        first, next_ = cells.select(place, -upper), cells.select(place, 1 - 3 * upper)
        if edge.kind == "periodic":
            return 0.5 * (first + cells.select(place, upper - 1))
        if edge.kind == "mixed":
            h = self.grid.spacing[axis]
            whole = values[edge.name] + edge.b * (7 * first - next_) / (2 * h)
            return whole / (edge.a + 3 * edge.b / h)
        if edge.kind != "value":
            return first
        if self.method.diffusivity != "none":
            return values[edge.name]
        # The value holds where the flow enters: solve the Riemann problem on the face.
        g = values[edge.name]
        speed = self.law.speed[:, axis].reshape(*self.batch, *[1] * (g.ndim - len(self.batch)))
        left, right = (first, g) if upper else (g, first)
        if self.method.transport == "linear":
            return torch.where(speed >= 0, left, right)
        a, b = torch.where(speed < 0, right, left), torch.where(speed < 0, left, right)
        fan = torch.where(a > 0, a, torch.where(b < 0, b, 0.0))
        return torch.where(a > b, torch.where(a + b > 0, a, b), fan)

    def _front(self, cells: Tensor, values: dict[str, Tensor]) -> Tensor | None:
        """Front of a Stefan problem inside its cell; see the op for the formula."""
        if self.dims == 2:
            return None
        shape = (*self.batch, 1, 1)
        u_star = self.law.diffusion[:, 1].reshape(shape)
        before, linear = cells[..., :-1], 2 * cells[..., 1:] - u_star
        total = before + u_star
        root = (linear**2 + 4 * total * cells[..., 1:].clamp(min=0.0)).sqrt()
        share = (linear + root) / (2 * total)
        edge = self.edges["left"]
        height = values["left"][..., None] + u_star if edge.kind == "value" else 2 * u_star
        share = torch.cat([2 * cells[..., :1] / height, share], -1)
        behind = (share >= 1).to(torch.int64).cumprod(-1).sum(-1, keepdim=True)
        inside = behind.clamp(max=cells.shape[-1] - 1)
        theta = share.gather(-1, inside).clamp(max=1.0)
        h, low = self.grid.spacing[0], float(self.grid.faces[0][0])
        return (low + (inside + theta) * h)[..., 0]


def _largest(core: Tensor) -> Tensor:
    return core[:, 0, 0].flatten(1).abs().amax(1) if core.shape[0] else core.new_zeros(0)


def _stacked(parts: list[Tensor], batch: tuple[int, ...], sizes: tuple[int, ...]) -> Tensor:
    return torch.stack(parts, 1).reshape(*batch, len(parts), *sizes)


def check_times(who: str, times: Tensor | Sequence[float]) -> Tensor:
    """Return the output times as ``(nt,)`` float64; raise unless they ascend."""
    tensor = torch.as_tensor(times, dtype=torch.float64).detach()
    if tensor.ndim != 1 or tensor.numel() < 2:
        raise ValueError(
            f"{who}: expected times to be a vector of at least 2 times, got shape "
            f"{tuple(tensor.shape)}"
        )
    check_finite(who, "times", tensor)
    if bool((tensor.diff() <= 0).any()):
        place = int((tensor.diff() <= 0).nonzero()[0])
        raise ValueError(
            f"{who}: expected times to be strictly increasing, got {float(tensor[place])} before "
            f"{float(tensor[place + 1])}"
        )
    return tensor.clone()


def stages_of(who: str, stages: int) -> int:
    """Check the number of stages of ``rkl2``."""
    if stages < 3 or stages % 2 == 0:
        raise ValueError(f"{who}: expected stages to be an odd number >= 3, got {stages}")
    return stages


__all__ = [
    "IMPLICIT",
    "SCHEMES",
    "Amplitude",
    "Domain",
    "Grid",
    "Law",
    "Source",
    "check_times",
    "field",
    "make_grid",
    "march",
    "nearest",
    "parameter",
    "stages_of",
]
