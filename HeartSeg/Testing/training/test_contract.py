"""The import contract of training lists all of its modules except nnU-Net's part."""

from __future__ import annotations

import re
from pathlib import Path

import heartseg.training


def test_every_training_module_is_under_the_contract_or_nnunets(repository: Path) -> None:
    configured = (repository / "pyproject.toml").read_text(encoding="utf-8")
    contract = configured.partition('name = "The generator and the training loop need only torch')[2]
    listed = set(re.findall(r'"heartseg\.training\.(\w+)"', contract.partition("forbidden_modules")[0]))
    home = Path(heartseg.training.__path__[0])
    there = {p.stem for p in home.iterdir() if (p.suffix == ".py" or p.is_dir()) and p.name[0] != "_"}
    assert there - {"nnunet"} == listed
