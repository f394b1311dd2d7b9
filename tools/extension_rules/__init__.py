"""The rules of ``tools/check_extension.py``: catalogue and CMake, README, files of the clone, Python source, panel."""

from . import catalogue, files, panel, readme, source
from .tree import Rule, Tree, read_tree

RULES: tuple[Rule, ...] = (*catalogue.RULES, *readme.RULES, *files.RULES, *source.RULES, *panel.RULES)

__all__ = ["RULES", "Rule", "Tree", "read_tree"]
