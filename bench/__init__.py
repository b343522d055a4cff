# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of the compiled operators beside PyTorch: ``python -m bench.run``."""
