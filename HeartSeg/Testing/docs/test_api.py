"""The API page lists all public names, and its examples run."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

import heartseg

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "api.md"
UNTYPED = {"__version__", "STRUCTURES"}
"""Values without an entry of their own; the page shows STRUCTURES in an example."""


def test_every_public_name_has_an_entry() -> None:
    entries = re.findall(r"^::: (\S+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    documented = []
    for entry in entries:
        module, _, name = entry.rpartition(".")
        documented.append(getattr(importlib.import_module(module), name))
    public = [getattr(heartseg, name) for name in heartseg.__all__ if name not in UNTYPED]
    assert sorted(map(repr, documented)) == sorted(map(repr, public))


def test_its_examples_run(sample_scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(
        str(PAGE),
        module_relative=False,
        globs={"sample": str(sample_scan)},
        optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL,
    )
    assert tried > 10 and failed == 0
