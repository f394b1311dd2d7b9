"""Cost of one training step of a preset at full size: CPU time, one thread, forward and backward pass.

    python benchmarks/training_steps.py [--presets csfbu integrated-attention nnunet]

Networks and patches are those that nnU-Net plans for CT with 512 x 512 pixels of 0.4 mm. One patch is measured and
multiplied by the batch size, because a batch of 14 slices of 512 x 512 does not fit into the memory of many machines.
"""

from __future__ import annotations

import argparse
import pydoc
import sys
import time
from typing import Any

import torch

from heartseg.networks.catalogue import unet_plan
from heartseg.training.nnunet.planning import adapted_plans
from heartseg.training.nnunet.presets import PRESETS, Preset
from heartseg.training.nnunet.supervision import TrainingLoss

STRUCTURES = 7


def base_plans() -> dict[str, Any]:
    """Changes of the presets to the plans of nnU-Net."""

    def configuration(dims: int, patch: list[int], stages: int, most: int, batch: int) -> dict[str, Any]:
        features = [min(32 * 2**i, most) for i in range(stages)]
        return {
            "data_identifier": "x",
            "batch_size": batch,
            "patch_size": patch,
            "spacing": [0.6, 0.4, 0.4][-dims:],
            "normalization_schemes": ["CTNormalization"],
            "architecture": {"arch_kwargs": unet_plan(features, dims)},
        }

    return {
        "configurations": {
            "2d": configuration(2, [512, 512], 8, 512, 12),
            "3d_fullres": configuration(3, [96, 160, 160], 6, 320, 2),
        }
    }


def seconds_a_patch(preset: Preset, configuration: dict[str, Any]) -> float:
    """CPU time of one patch, s: the second of two, because the first includes initialization."""
    entry = configuration["architecture"]
    arguments = {
        k: pydoc.locate(v) if k in entry["_kw_requires_import"] and v else v for k, v in entry["arch_kwargs"].items()
    }
    network_class: Any = pydoc.locate(entry["network_class_name"])
    network = network_class(input_channels=1, num_classes=1 + STRUCTURES, deep_supervision=True, **arguments).train()
    loss = TrainingLoss(preset, STRUCTURES, configuration["spacing"])
    patch = configuration["patch_size"]
    image, labels = torch.randn(1, 1, *patch), torch.zeros(1, 1, *patch, dtype=torch.int16)
    labels[..., patch[-2] // 4 : patch[-2] // 2, patch[-1] // 4 : patch[-1] // 2] = 3
    for _ in range(2):
        start = time.process_time()
        loss(network(image), labels).backward()
        taken = time.process_time() - start
    return taken


def main() -> int:
    """Print a table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=tuple(PRESETS), default=tuple(PRESETS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| preset | patch | batch | CPU s/patch | CPU s/step | steps | days/fold |\n|---|---|---|---|---|---|---|")
    for name in args.presets:
        preset = PRESETS[name]
        (configuration,) = adapted_plans(base_plans(), preset, name, 0)["configurations"].values()
        one, batch = seconds_a_patch(preset, configuration), configuration["batch_size"]
        steps = preset.epochs * preset.iterations
        patch = " × ".join(map(str, configuration["patch_size"]))
        print(
            f"| {name} | {patch} | {batch} | {one:.1f} | {one * batch:.0f} | {steps} | "
            f"{one * batch * steps / 86400:.0f} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
