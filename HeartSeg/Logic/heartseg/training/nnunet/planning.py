"""Plans: nnU-Net's fingerprint, planning and preprocessing, and the changes of a preset."""

from __future__ import annotations

import contextlib
import copy
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import HeartSegError, InputError, SettingsError
from ...models.card import read_json
from ...progress import Reporter
from .convert import DATASET_ID, DATASET_NAME, write_json
from .environment import bars_reported, planning_environment, threads_for_processes
from .names import is_dotted, named_object
from .presets import Preset

BASE_PLANS = "nnUNetPlans"
INTENSITIES_PER_CASE = 500_000
"""Number of foreground voxels sampled per case for nnU-Net's intensity statistics. nnU-Net samples 100 million in total
for any number of cases, which takes half a minute and gigabytes for four small scans. With this number the error of the
mean is a thousandth of the SD."""

SETTINGS_KEY = "heartseg"
"""Key of the plans that contains preset, seed, initial weights, omitted cases and unlabelled scans."""


def plan(out: Path, processes: int, reporter: Reporter) -> dict[str, Any]:
    """Return nnU-Net's plans of the raw data set below ``out``; makes them only once.

    Raises:
        InputError: nnU-Net cannot plan the data.
    """
    home = out / "preprocessed" / DATASET_NAME
    if (home / f"{BASE_PLANS}.json").is_file():
        return read_json(home / f"{BASE_PLANS}.json")
    import torch
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    cases = len(read_json(out / "raw" / DATASET_NAME / "dataset.json")["dataset"])
    with (
        as_input_error("plan"),
        planning_environment(),
        threads_for_processes(processes == 1),
        bars_reported("fingerprint", cases, reporter),
    ):
        extractor = DatasetFingerprintExtractor(DATASET_ID, processes)
        extractor.num_foreground_voxels_for_intensitystats = min(10e7, INTENSITIES_PER_CASE * cases)
        extractor.run(overwrite_existing=False)
        with torch.device("meta"):  # networks are built only to determine their size: no memory, no initial weights
            ExperimentPlanner(DATASET_ID).plan_experiment()
    return read_json(home / f"{BASE_PLANS}.json")


def adapted_plans(
    base: Mapping[str, Any],
    preset: Preset,
    name: str,
    seed: int,
    start: Mapping[str, Any] | None = None,
    left_out: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the plans of one training: a configuration of the base plans, changed by the preset, and the preset.

    Args:
        base: nnU-Net's plans.
        preset: changes of the plans.
        name: name of the new plans, which is part of the name of the results folder.
        seed: seed of the initial weights and of sampling.
        start: plans that provide spacing, patch, normalisation and network (fine-tuning); their key ``checkpoint`` is
            the file of the weights.
        left_out: names of cases that are not used for training.

    Raises:
        SettingsError: the data do not support this dimension, or a size is unsuitable.
    """
    source = start["plans"] if start else base
    wanted = start["configuration"] if start else preset.configuration
    if wanted not in source["configurations"]:
        raise SettingsError(
            f"the scans cannot be trained in {preset.dimension}: nnU-Net planned "
            f"{', '.join(source['configurations'])}; choose another --dimension"
        )
    configuration = copy.deepcopy(source["configurations"][wanted])
    for key in ("inherits_from", "previous_stage", "next_stage"):
        configuration.pop(key, None)
    if start:
        configuration["data_identifier"] = f"{name}_{preset.configuration}"
    if preset.normalization and configuration["normalization_schemes"] != [preset.normalization]:
        configuration["normalization_schemes"] = [preset.normalization]
        configuration["data_identifier"] += f"_{preset.normalization}"
    configuration["batch_size"] = preset.batch or configuration["batch_size"]
    _resize(configuration, preset)
    configuration["architecture"] = architecture(configuration["architecture"]["arch_kwargs"], preset)
    plans = {k: copy.deepcopy(v) for k, v in base.items() if k != "configurations"}
    if start:
        axes = ("transpose_forward", "transpose_backward")
        plans.update({key: source[key] for key in (*axes, "foreground_intensity_properties_per_channel")})
    settings = {
        "preset": preset.to_dict(),
        "seed": seed,
        "start_from": start["checkpoint"] if start else None,
        "left_out": list(left_out),
    }
    return {
        **plans,
        "plans_name": name,
        "configurations": {preset.configuration: configuration},
        SETTINGS_KEY: settings,
    }


def architecture(planned: Mapping[str, Any], preset: Preset) -> dict[str, Any]:
    """Return the plans entry for the preset's network, with the stock class if one has the same weights.

    Raises:
        SettingsError: a network of the user cannot be imported.
    """
    from ...networks.catalogue import find

    entry = find(preset.network)
    if is_dotted(preset.network):
        named_object(preset.network, "network")  # fail before the preprocessing, which may take hours
    kwargs = dict(planned)
    if "n_blocks_per_stage" in kwargs:
        kwargs["n_conv_per_stage"] = kwargs.pop("n_blocks_per_stage")
    return {
        "network_class_name": entry.stock_class or entry.class_path,
        "arch_kwargs": entry.arguments(kwargs),
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _resize(configuration: dict[str, Any], preset: Preset) -> None:
    """Set the preset's patch, the pooling that nnU-Net plans for it, and at most the preset's number of levels."""
    kwargs = configuration["architecture"]["arch_kwargs"]
    if preset.patch is not None and list(preset.patch) != list(configuration["patch_size"]):
        from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

        _, strides, kernels, patch, _ = get_pool_and_conv_props(configuration["spacing"], preset.patch, 4, 999999)
        configuration["patch_size"] = [int(n) for n in patch]
        kwargs["strides"], kwargs["kernel_sizes"] = ([[int(v) for v in k] for k in o] for o in (strides, kernels))
        _set_stages(kwargs, len(strides))
    if preset.stages is not None and preset.stages < kwargs["n_stages"]:
        _set_stages(kwargs, preset.stages)


def _set_stages(kwargs: dict[str, Any], stages: int) -> None:
    """Set the number of levels: features double up to the planned maximum; all else is as in the first level."""
    features = list(kwargs["features_per_stage"])
    kwargs["features_per_stage"] = [
        features[0] * 2**i if features[0] * 2**i <= max(features) else max(features) for i in range(stages)
    ]
    kwargs["n_stages"] = stages
    for key, count in (("strides", stages), ("kernel_sizes", stages)):
        kwargs[key] = kwargs[key][:count]
    encoder = "n_conv_per_stage" if "n_conv_per_stage" in kwargs else "n_blocks_per_stage"
    for key, count in ((encoder, stages), ("n_conv_per_stage_decoder", stages - 1)):
        kwargs[key] = [kwargs[key][0]] * count


def preprocess(out: Path, plans: Mapping[str, Any], processes: int, reporter: Reporter) -> None:
    """Write the plans and preprocess the data, unless another training with the same data has already done so.

    Raises:
        InputError: nnU-Net cannot preprocess the data.
    """
    home = out / "preprocessed" / DATASET_NAME
    ((configuration_name, configuration),) = plans["configurations"].items()
    write_json(home / f"{plans['plans_name']}.json", plans)
    done = home / f"{configuration['data_identifier']}.done"
    cases = read_json(out / "raw" / DATASET_NAME / "dataset.json")["dataset"]
    if done.is_file():
        return
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

    with (
        as_input_error("preprocess"),
        threads_for_processes(processes == 1),
        bars_reported("preprocess", len(cases), reporter),
    ):
        DefaultPreprocessor(verbose=False).run(DATASET_ID, configuration_name, plans["plans_name"], processes)
    references = home / "gt_segmentations"
    references.mkdir(exist_ok=True)
    for case in cases.values():
        source = out / "raw" / DATASET_NAME / case["label"]
        shutil.copyfile(source, references / source.name)
    done.touch()


@contextlib.contextmanager
def as_input_error(what: str) -> Iterator[None]:
    """Convert nnU-Net's errors to ``InputError``: the data cause them, and their last line describes the cause."""
    try:
        yield
    except HeartSegError:
        raise
    except (RuntimeError, ValueError, AssertionError, IndexError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[-1]
        raise InputError(
            f"nnU-Net cannot {what} the data ({reason:.200}): train.log has the details; check the scans with --dry-run"
        ) from error
