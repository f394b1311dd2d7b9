"""Folders that our own loop cannot run (regions, cascades, other classes): nnU-Net v2's predictor, if installed.

The only module of the inference path that may import nnunetv2, and only when such a folder is run. Weights are loaded
by HeartSeg's own safe loader and handed over, so that nnU-Net never unpickles the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import DependencyError, ModelError
from ..findings import Finding, Severity
from ..models.checkpoint import load_checkpoint
from ..models.folder import ModelFolder
from ..progress import Reporter
from ..settings import Settings
from ..volume.geometry import to_nearest_lps
from ..volume.types import Volume
from .tiles import mirror_combinations

if TYPE_CHECKING:
    import torch

    from .engine import Prediction


def predict_with_nnunet(
    folder: ModelFolder, volume: Volume, settings: Settings, device: torch.device, reporter: Reporter
) -> Prediction:
    """Run a folder with ``nnUNetPredictor``: whole image, no cancel between tiles.

    In stored axes; or, where the model's card promises LPS, in the nearest LPS axes (turned, not interpolated).

    Raises:
        DependencyError: nnunetv2 is not installed.
        ModelError: nnU-Net cannot run the folder either.
    """
    from .engine import Prediction

    try:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    except ImportError as error:
        raise DependencyError(
            f'model {folder.name} needs nnU-Net itself ({folder.needs_fallback}): pip install "heartseg[train]"'
        ) from error
    reporter.announce(
        f"model {folder.name}: {folder.needs_fallback}; running nnU-Net's own predictor on the whole image"
    )
    plans = PlansManager(dict(folder.plans))
    configuration = plans.get_configuration(folder.configuration)
    checkpoints = [load_checkpoint(path, folder.sha256(path)) for path in folder.checkpoints]
    predictor = nnUNetPredictor(
        tile_step_size=settings.tile_step,
        use_mirroring=settings.accurate,
        perform_everything_on_device=device.type == "cuda",
        device=device,
        allow_tqdm=False,
    )
    try:
        labels_handler = plans.get_label_manager(dict(folder.dataset))
        network = get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            folder.num_input_channels,
            labels_handler.num_segmentation_heads,
            deep_supervision=False,
        )
        predictor.manual_initialization(
            network,
            plans,
            configuration,
            [c["network_weights"] for c in checkpoints],
            dict(folder.dataset),
            checkpoints[0]["trainer_name"],
            checkpoints[0]["mirroring_axes"],
        )
        turned = folder.turns_scans(settings.reorient)
        flip, lps = to_nearest_lps(volume.geometry)
        array = np.ascontiguousarray(flip.apply(volume.array)) if turned else volume.array
        spacing = list((lps if turned else volume.geometry).spacing[::-1])
        with reporter.stage("predict"):
            labels = predictor.predict_single_npy_array(
                array[None].astype(np.float32), {"spacing": spacing}, None, None, False
            )
        labels = np.ascontiguousarray(flip.undo(labels)) if turned else labels
    except (RuntimeError, KeyError, ValueError, AttributeError) as error:
        raise ModelError(f"nnU-Net cannot run model {folder.name}: {error}") from error
    note = Finding(
        "nnunet-fallback",
        Severity.INFO,
        f"{folder.needs_fallback}: predicted by nnU-Net itself, {'LPS' if turned else 'stored'} axes, whole image",
    )
    mirrored = len(mirror_combinations(checkpoints[0]["mirroring_axes"] or ())) if settings.accurate else 1
    details = {
        "mode": "nnU-Net's predictor",
        "device": str(device),
        "precision": "float32",
        "backend": "nnunetv2",
        "accurate": settings.accurate,
        "windows": 1,
        "mirrored_copies": mirrored,
    }
    return Prediction(folder.structure_lut()[labels.astype(np.uint8)], (note,), {}, details)
