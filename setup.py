"""Puts the model that ships, the folder ``Models/``, into the wheel. All else is in pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

MODELS = Path(__file__).resolve().parent / "Models"


class BuildWithModels(build_py):
    """Copies ``Models/`` to ``heartseg/model_store/`` in the build folder; the clone stays as it is."""

    def run(self) -> None:
        super().run()
        if self.editable_mode or not MODELS.is_dir():
            return  # an editable installation finds Models/ in the clone
        store = Path(self.build_lib) / "heartseg" / "model_store"
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(MODELS, store, ignore=shutil.ignore_patterns(".*", "__pycache__"))


setup(cmdclass={"build_py": BuildWithModels})
