"""Check the tree against what Slicer's Extension Manager asks of an extension, and against Slicer's conventions.

::

    python tools/check_extension.py            # this clone
    python tools/check_extension.py FOLDER     # another

One line a rule: ``ok``, or what is wrong and how to mend it. Exit status 1 when a rule fails. Standard library only; no
network: that the addresses answer can be checked only once the repository is public.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from extension_rules import RULES, Tree, read_tree
from extension_rules.tree import Problem

SHOWN = 4
"""Problems of one rule that are spelt out."""


def check(tree: Tree) -> dict[str, list[Problem]]:
    """Problems by rule, in the rules' order; an empty list is a rule that holds."""
    return {rule.name: rule.problems(tree) for rule in RULES}


def report(found: dict[str, list[Problem]]) -> str:
    """A line a rule (what it asks, or what is wrong and how to mend it), and a last one that counts them."""
    asks = {rule.name: rule.asks for rule in RULES}
    lines = [f"wrong  {n}: {in_words(p)}" if p else f"ok     {n}: {asks[n]}" for n, p in found.items()]
    failed = [name for name, problems in found.items() if problems]
    lines.append(f"{len(found) - len(failed)} of {len(found)} rules hold" + "".join(f"; not {n}" for n in failed))
    return "\n".join(lines)


def in_words(problems: list[Problem]) -> str:
    """What is wrong and how to mend it, the first few of many."""
    said = "; ".join(f"{p.wrong} (to mend: {p.mend})" for p in problems[:SHOWN])
    return said + (f"; and {len(problems) - SHOWN} more like these" if len(problems) > SHOWN else "")


def main(arguments: list[str] | None = None) -> int:
    """Check a folder; 0 when every rule holds, else 1."""
    parser = argparse.ArgumentParser(prog="python tools/check_extension.py", description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parents[1])
    found = check(read_tree(parser.parse_args(arguments).folder))
    print(report(found))
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
