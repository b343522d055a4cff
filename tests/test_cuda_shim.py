# SPDX-License-Identifier: Apache-2.0
"""The shim under the CUDA kernels: what a device forbids, or leaves undefined, stops it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import simt_driver as simt


def build(mode: str) -> Path:
    return simt.build(mode, driver="faults_driver.cpp", kernels="")


@pytest.fixture(scope="module")
def fibers() -> Path:
    return build("fibers")


@pytest.fixture(scope="module")
def threads() -> Path:
    return build("threads")


def run(program: Path, *words: object) -> tuple[int, str]:
    """The exit status, and what was printed: results, or what was found."""
    done = subprocess.run(
        [str(program), *map(str, words)],
        capture_output=True,
        text=True,
        env={"TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=0"},
        check=False,
    )
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("divergent_barrier", "divergent barrier"),
        ("barrier_after_an_early_end", "divergent barrier"),
        ("barrier_and_vote", "divergent barrier"),
        ("barrier_and_shuffle", "divergent barrier"),
        ("shuffle_from_an_ended_lane", "divergent barrier"),
        ("shuffle_of_half_a_warp", "collective of some lanes"),
        ("barrier_of_a_warp_with_lanes_missing", "lanes are missing"),
        ("past_the_end_of_shared_memory", "heap-buffer-overflow"),
        ("past_the_end_of_an_array", "heap-buffer-overflow"),
        ("misaligned_run", "misaligned address"),
        ("misaligned_copy", "copy of 16 bytes is not aligned"),
        ("copy_that_nobody_waits_for", "ended while it was copying"),
        ("other_block_before_it_starts", "before that is known to have started"),
        ("block_that_is_not_there", "block 2 of a cluster is not there"),
        ("other_block_after_its_end", "block 1 of a cluster is not there"),
        ("memory_of_a_block_that_has_ended", "heap-use-after-free"),
    ],
)
def test_a_fault_stops_the_program(fibers: Path, fault: str, message: str) -> None:
    status, text = run(fibers, fault)
    assert status not in (0, 2)
    assert message in text


@pytest.mark.parametrize(
    "fault", ["two_threads_write", "two_blocks_write", "a_block_reads_what_another_writes"]
)
def test_a_race_is_found(threads: Path, fault: str) -> None:
    status, text = run(threads, fault)
    assert status not in (0, 2)
    assert "data race" in text


def test_right_kernels_pass_in_both_modes(fibers: Path, threads: Path) -> None:
    for program in (fibers, threads):
        for name, expected in (("other_block", [11, 10]), ("last_block_adds", [5, 2, 3])):
            status, text = run(program, name)
            assert status == 0, text
            assert list(map(float, text.split()))[: len(expected)] == expected


def test_memory_holds_nan_until_it_is_filled(fibers: Path) -> None:
    """Of every block anew, and where a copy is on its way."""
    assert run(fibers, "fresh_memory")[1].replace("-", "").split()[:2] == ["nan", "nan"]
    assert run(fibers, "early_read")[1].replace("-", "").split()[:2] == ["nan", "7"]


ONE = (1, 1, 1)
BAD = "invalid configuration"
KILO = 1024


@pytest.mark.parametrize(
    ("major", "grid", "block", "shared", "asked", "cluster", "result"),
    [
        (9, ((1 << 31) - 1, 1, 1), (1024, 1, 1), 0, 0, 1, "starts"),
        (9, (1 << 31, 1, 1), ONE, 0, 0, 1, BAD),
        (9, (1, 65535, 65535), ONE, 0, 0, 1, "starts"),
        (9, (1, 65536, 1), ONE, 0, 0, 1, BAD),
        (9, (1, 1, 65536), ONE, 0, 0, 1, BAD),
        (9, (0, 1, 1), ONE, 0, 0, 1, BAD),
        (9, ONE, (1025, 1, 1), 0, 0, 1, BAD),
        (9, ONE, (32, 33, 1), 0, 0, 1, BAD),
        (9, ONE, (1, 1, 65), 0, 0, 1, BAD),
        (9, ONE, (0, 1, 1), 0, 0, 1, BAD),
        (9, ONE, ONE, 48 * KILO, 0, 1, "starts"),
        (9, ONE, ONE, 48 * KILO + 1, 0, 1, "invalid value"),
        (9, ONE, ONE, 227 * KILO, 1, 1, "starts"),
        (9, ONE, ONE, 227 * KILO + 1, 1, 1, "invalid value"),
        (8, ONE, ONE, 99 * KILO, 1, 1, "starts"),
        (8, ONE, ONE, 99 * KILO + 1, 1, 1, "invalid value"),
        (9, (8, 1, 1), (32, 1, 1), 0, 0, 8, "starts"),
        (9, (16, 1, 1), (32, 1, 1), 0, 0, 16, BAD),
        (9, (9, 1, 1), (32, 1, 1), 0, 0, 2, BAD),
        (8, (8, 1, 1), (32, 1, 1), 0, 0, 8, BAD),
    ],
)
def test_launches_are_refused_as_a_device_refuses_them(
    fibers: Path,
    major: int,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    shared: int,
    asked: int,
    cluster: int,
    result: str,
) -> None:
    status, text = run(fibers, "launch", major, *grid, *block, shared, asked, cluster)
    assert (status, text.strip()) == (0, result)
