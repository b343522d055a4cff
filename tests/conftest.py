# SPDX-License-Identifier: Apache-2.0
"""Seed, devices, dtypes and tolerances that all tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator

import hypothesis
import pytest
import torch


SEED = int(os.environ.get("PHYSCON_TEST_SEED", "0"))

# No deadline: another process may hold the processor. Failing examples are printed, not stored.
hypothesis.settings.register_profile(
    "physcon", deadline=None, database=None, derandomize=True, print_blob=True
)
hypothesis.settings.load_profile("physcon")

RELATIVE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def assert_close(actual: torch.Tensor, expected: torch.Tensor, factor: float = 1.0) -> None:
    """Compare with the tolerance of the dtype of ``actual``, scaled by the size of ``expected``."""
    relative = factor * RELATIVE[actual.dtype]
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=relative, atol=relative * scale
    )


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Iterator[None]:
    """Seed the global generator; PHYSCON_TEST_SEED chooses another seed."""
    torch.manual_seed(SEED)
    yield


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Each dtype that the kernels compute in."""
    return request.param


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give up a worker whose device a test has lost: every later test there would fail as well."""
    report = yield
    if report.failed and item.get_closest_marker("cuda") and torch.cuda.is_available():
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            if "PYTEST_XDIST_WORKER" not in os.environ:
                pytest.exit(f"{report.longreprtext}\nthe device is lost", 1)
            # The worker is replaced, and this test is the one that is reported.
            print(report.nodeid, report.longreprtext, sep="\n", file=sys.__stderr__, flush=True)
            os._exit(1)
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip CUDA tests without a device, unless skips for a missing feature must fail."""
    if item.get_closest_marker("cuda") is None:
        return
    if not torch.cuda.is_available():
        message = "needs a CUDA device"
        if os.environ.get("PHYSCON_TEST_REQUIRE_CUDA"):
            pytest.fail(message)
        pytest.skip(message)
