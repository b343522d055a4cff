# SPDX-License-Identifier: Apache-2.0
"""Cell updates per second of the finite-volume steps beside NumPy, PyClaw and py-pde.

Run from the root of the repository: ``python -m bench.finite_volume [--output FILE]``. Burgers'
equation on 1024 periodic cells, steps of the same length for everybody, 256 samples for us and for
NumPy; the two packages take one sample at a time and are measured on one, several hundred steps
in one call. PyClaw and py-pde take part where they are installed. Thread-CPU time, one thread,
interleaved, minimum of 15; then our wall time on all cores, which the others leave idle. py-pde has
no scheme for shocks: its forward Euler step of central differences with viscosity is the cheapest
that it offers, not the same work.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.machine import describe
from physcon_ext import ops
from physcon_ext.ops import EdgeTable, Method


CELLS, SAMPLES = 1024, 256
STEP = 2.0**-14  # Courant number 0.1: the work of a step does not depend on it
ROUNDS = 15
SCHEMES = {
    "godunov": "euler", "minmod": "ssprk2", "van_leer": "ssprk2", "mc": "ssprk2", "weno5": "ssprk3"
}  # fmt: skip

Run = Callable[[], int]  # does the work, returns cell updates (cells times steps)


def initial() -> np.ndarray:
    """Return one sample: a wave that will break."""
    x = (np.arange(CELLS) + 0.5) / CELLS
    return np.sin(2 * np.pi * x) + 0.5


def ours(scheme: str, steps: int = 100) -> Run:
    """Return our run of all samples."""
    state = torch.zeros(SAMPLES, 1, 2, 1, CELLS, dtype=torch.float64)
    state[:, 0, 0, 0] = torch.from_numpy(initial())
    one = torch.ones(SAMPLES, 2, dtype=torch.float64)
    method = Method(transport="burgers", scheme=scheme, integrator=SCHEMES[scheme])
    ends = [EdgeTable("periodic")] * 2
    dt, count = STEP * one[:, 0], torch.full((SAMPLES,), steps)

    def run() -> int:
        ops.balance_law(
            state, method=method, spacing=(1 / CELLS, 1.0), speed=one, diffusion=one, edges=ends,
            dt=dt, steps=count,
        )  # fmt: skip
        return SAMPLES * CELLS * steps

    return run


def numpy_loop(scheme: str, steps: int = 4) -> Run:
    """Return a loop over samples and steps in NumPy, each step in whole-array operations."""
    samples = [initial() for _ in range(SAMPLES // 16)]

    def flux(u: np.ndarray) -> np.ndarray:
        """Godunov flux through the face at the left of every cell."""
        left, right = np.roll(u, 1), u
        if scheme != "godunov":
            a, b = u - np.roll(u, 1), np.roll(u, -1) - u
            product = a * b
            slope = np.where(product > 0, 2 * product / np.where(product > 0, a + b, 1.0), 0.0)
            left, right = np.roll(u + 0.5 * slope, 1), u - 0.5 * slope
        return 0.5 * np.maximum(np.maximum(left, 0) ** 2, np.minimum(right, 0) ** 2)

    def change(u: np.ndarray) -> np.ndarray:
        f = flux(u)
        return -STEP * CELLS * (np.roll(f, -1) - f)

    def run() -> int:
        for sample in samples:
            u = sample
            for _ in range(steps):
                first = u + change(u)
                u = first if scheme == "godunov" else 0.5 * (u + first + change(first))
        return len(samples) * CELLS * steps

    return run


def pyclaw(kind: str, steps: int = 256) -> Run:
    """Return PyClaw's Fortran solver: classic of first or second order, or SharpClaw (WENO5)."""
    from clawpack import pyclaw as claw
    from clawpack import riemann

    logging.getLogger("pyclaw").setLevel(logging.CRITICAL)

    def run() -> int:
        if kind == "weno5":
            solver = claw.SharpClawSolver1D(riemann.burgers_1D)
        else:
            solver = claw.ClawSolver1D(riemann.burgers_1D)
            solver.order = 1 if kind == "godunov" else 2
            solver.limiters = 0 if kind == "godunov" else claw.limiters.tvd.vanleer
        solver.bc_lower[0] = solver.bc_upper[0] = claw.BC.periodic
        solver.dt_variable, solver.dt_initial, solver.dt = False, STEP, STEP
        solver.max_steps = 10**9
        domain = claw.Domain([claw.Dimension(0.0, 1.0, CELLS, name="x")])
        state = claw.State(domain, 1)
        state.problem_data["efix"] = True
        state.q[0] = initial()
        solver.evolve_to_time(claw.Solution(state, domain), steps * STEP)
        return CELLS * steps

    return run


def py_pde(steps: int = 1024) -> Run:
    """Return py-pde's compiled forward Euler step of viscous Burgers, central differences."""
    os.environ["NUMBA_NUM_THREADS"] = "1"
    import pde

    logging.getLogger("pde").setLevel(logging.WARNING)
    grid = pde.CartesianGrid([[0, 1]], [CELLS], periodic=True)
    field = pde.ScalarField(grid, initial())
    equation = pde.PDE({"u": "-d_dx(u**2 / 2) + 1e-3 * laplace(u)"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stepper = pde.EulerSolver(equation, backend="numba").make_stepper(field, dt=STEP)

    def run() -> int:
        stepper(field.copy(), 0.0, steps * STEP)
        return CELLS * steps

    return run


def contenders() -> dict[str, Run]:
    """Return who can run here, by name."""
    found = {f"ours {scheme}": ours(scheme) for scheme in SCHEMES}
    for scheme in ("godunov", "van_leer"):
        found[f"numpy loop {scheme}"] = numpy_loop(scheme)
    if importlib.util.find_spec("clawpack"):
        for kind in ("godunov", "van_leer", "weno5"):
            found[f"pyclaw {kind}"] = pyclaw(kind)
    if importlib.util.find_spec("pde"):
        found["py-pde central"] = py_pde()
    return found


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """Return the shortest time of one cell update in nanoseconds, by contender."""
    torch.set_num_threads(1)
    everyone = contenders()
    best = dict.fromkeys(everyone, float("inf"))
    for number in range(rounds + 1):
        for name, run in everyone.items():
            start = time.thread_time()
            updates = run()
            seconds = time.thread_time() - start
            if number > 0:  # the first round compiles and warms up
                best[name] = min(best[name], 1e9 * seconds / updates)
    return best


def on_all_cores(threads: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Return our shortest wall time of one cell update in nanoseconds, by scheme."""
    torch.set_num_threads(threads)
    runs = {scheme: ours(scheme) for scheme in SCHEMES}
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for scheme, run in runs.items():
            start = time.perf_counter()
            updates = run()
            best[scheme] = min(best[scheme], 1e9 * (time.perf_counter() - start) / updates)
    return best


def ratios(best: dict[str, float]) -> dict[str, float]:
    """Return how many times faster we are than each of the others, scheme by scheme."""
    found = {}
    for name, nanoseconds in best.items():
        who, scheme = name.rsplit(" ", 1)
        if who != "ours":
            found[name] = nanoseconds / best[f"ours {scheme if scheme in SCHEMES else 'godunov'}"]
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the command; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m bench.finite_volume", description=__doc__)
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write the JSON")
    arguments = parser.parse_args(argv)
    cores = torch.get_num_threads()
    machine = describe()  # before PyClaw leaves its log behind
    best = measure()
    speedup = ratios(best)
    for name, nanoseconds in best.items():
        note = f"  ours is {speedup[name]:.1f} x faster" if name in speedup else ""
        print(f"{name:22s} {nanoseconds:9.3f} ns per cell and step{note}")
    together = on_all_cores(cores)
    for scheme, nanoseconds in together.items():
        print(f"ours {scheme:17s} {nanoseconds:9.3f} ns of wall time on {cores} cores")
    if arguments.output is not None:
        record = machine | {
            "cells": CELLS, "samples": SAMPLES, "threads": 1, "rounds": ROUNDS,
            "ns_per_cell_step": best, "ratio": speedup,
            "ns_wall_all_cores": together,
        }  # fmt: skip
        arguments.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
