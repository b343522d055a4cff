# SPDX-License-Identifier: Apache-2.0
"""Every example in a docstring and in the README runs as printed."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch
from bench.tables import with_tables

import physcon_ext


ROOT = Path(__file__).resolve().parent.parent
# What a reader of an example has imported already.
NAMES = {"torch": torch, "px": physcon_ext}
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def module_names() -> list[str]:
    """Every module of the package that is Python."""
    found = pkgutil.walk_packages(physcon_ext.__path__, "physcon_ext.")
    return ["physcon_ext", *(module.name for module in found if not module.name.endswith("._C"))]


@pytest.mark.parametrize("name", module_names())
def test_docstring_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=OPTIONS, extraglobs=NAMES)
    assert failed == 0


def test_the_package_has_docstring_examples() -> None:
    finder = doctest.DocTestFinder()
    count = sum(
        len(test.examples)
        for name in module_names()
        for test in finder.find(importlib.import_module(name))
    )
    assert count >= 20


def code_blocks(language: str) -> list[str]:
    """The fenced blocks of one language in the README."""
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_readme_example_prints_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = code_blocks("python")
    assert blocks
    for block in blocks:
        assert len(block.splitlines()) <= 16
        exec(compile(block, "README.md", "exec"), {})
        expected = "".join(f"{text}\n" for text in re.findall(r"#> (.*)", block))
        assert capsys.readouterr().out == expected


def test_the_readme_embedding_example_is_the_tested_one() -> None:
    (block,) = code_blocks("cpp")
    assert block in (ROOT / "examples/cpp/blend.cpp").read_text()


def test_the_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text and "make test" in text


def test_the_readme_tables_show_the_recorded_results() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count("<!-- table ") == text.count("<!-- end -->") >= 4
    assert with_tables(text) == text, "run python -m bench.tables"
