"""Run a command of nnU-Net in the folder of a HeartSeg training, with access to HeartSeg's trainer.

    python -m heartseg.training.nnunet.stock own nnUNetv2_train 501 2d 0 -tr HeartSegTrainer -p csfbu --c

sets nnU-Net's variables for the folder ``own`` and then runs the command. This is necessary if ``import torchvision``
fails, as with a CPU build of torch and torchvision from PyPI, because nnU-Net's search for trainers imports all of its
own, and some need torchvision.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from ...errors import SettingsError
from .environment import check_nnunet, nnunet_environment, trainer_lookup_without_torchvision


def run_stock_command(folder: Path, command: str, arguments: Sequence[str]) -> None:
    """Run a command of nnU-Net in this process.

    Args:
        folder: folder of a training, as made by ``heartseg train -o``.
        command: name of the command, for example ``nnUNetv2_train``.
        arguments: arguments of the command.

    Raises:
        SettingsError: nnU-Net has no such command, or the folder contains no training.
    """
    check_nnunet()
    found = [e for e in entry_points(group="console_scripts") if e.name == command and e.value.startswith("nnunetv2.")]
    if not found:
        raise SettingsError(f"nnU-Net has no command {command!r}: give one such as nnUNetv2_train")
    if not (folder / "preprocessed").is_dir():
        raise SettingsError(f"folder {str(folder)!r} holds no training: give the one of heartseg train -o")
    before = sys.argv
    sys.argv = [command, *arguments]
    try:
        with nnunet_environment(folder, None, 1), trainer_lookup_without_torchvision():
            found[0].load()()
    finally:
        sys.argv = before


def main() -> int:
    """Run the command in ``sys.argv``; returns the exit status."""
    if len(sys.argv) < 3:
        print("usage: python -m heartseg.training.nnunet.stock FOLDER COMMAND [ARGUMENT ...]", file=sys.stderr)  # noqa: T201
        return 2
    try:
        run_stock_command(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
    except SettingsError as error:
        print(f"heartseg: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
