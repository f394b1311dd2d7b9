"""Write ``docs/reference/command-line.md`` from the command line's own parser; a test holds them equal.

Run this after changing an option or its help text::

    python tools/write_command_line.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "command-line.md"
HEAD = """\
# Command line

<!-- Written by tools/write_command_line.py from the parser's own help; do not edit. -->

`heartseg COMMAND --help` prints the same. Progress goes to standard error, results to standard output.
"""


def text() -> str:
    """The page's content."""
    from heartseg.cli.main import build_parser

    parts = [HEAD]
    for parser in _parsers(build_parser()):
        parts += [f"\n## `{parser.prog}`\n", _plain(parser.description), _arguments(parser), _plain(parser.epilog)]
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def _parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parser and those of its commands, in order."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found += _parsers(inner)
    return found


def _plain(prose: str | None) -> str:
    """Indented lines, which line up columns, as code; the others as they are."""
    lines: list[str] = []
    inside = False
    for line in (prose or "").strip().splitlines():
        indented = line.startswith(" ")
        if indented and not inside and lines and lines[-1].endswith("·"):  # a sentence goes on
            lines[-1] += " " + line.strip()
            continue
        if indented != inside:
            lines += ["```text", line] if indented else ["```", line]
            inside = indented
        else:
            lines.append(line)
    return "\n".join([*lines, "```"] if inside else lines) + ("\n" if lines else "")


def _arguments(parser: argparse.ArgumentParser) -> str:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        if isinstance(action, argparse._SubParsersAction):
            rows += [(f"`{c.dest}`", c.help or "") for c in action._choices_actions]
            continue
        choices = f"{{{','.join(map(str, action.choices))}}}" if action.choices else ""
        value = action.metavar or choices or action.dest.upper()
        value = " ".join(value) if isinstance(value, tuple) else value
        if not action.option_strings:
            name = f"[{value}]" if action.nargs == "?" else str(value)
        else:
            name = ", ".join(action.option_strings) + (f" {value}" if action.nargs != 0 else "")
        needed = " (required)" if action.option_strings and action.required else ""
        rows.append((f"`{name}`".replace("|", "\\|"), f"{(action.help or '').replace('%%', '%')}{needed}"))
    if not rows:
        return ""
    return "\n".join(["| argument | meaning |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "HeartSeg" / "Logic"))
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text(), encoding="utf-8")
    print(PAGE)
