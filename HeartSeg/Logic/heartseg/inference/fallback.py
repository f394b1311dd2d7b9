"""Folders that HeartSeg's own loop cannot run (regions, cascades, other classes), run by nnU-Net v2's predictor.

The only module of the inference path that may import nnunetv2. HeartSeg's own safe loader reads the weights, so that
nnU-Net never unpickles the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..devices import Device
from ..errors import DependencyError, ModelError
from ..findings import Finding, Severity
from ..models.checkpoint import load_checkpoint
from ..models.folder import ModelFolder
from ..progress import Reporter
from ..provenance import RunFacts
from ..settings import Settings
from ..volume.geometry import to_nearest_lps
from ..volume.types import Volume
from ..wording import _
from .plan import Way
from .prediction import Prediction
from .tiles import mirror_combinations


class NnUNet:
    """Segments one scan with ``nnUNetPredictor``: the whole image, without a cancel between tiles.

    In stored axes; or in the nearest LPS axes (turned, not interpolated), where the model's card states LPS.

    Args:
        volume: the scan.
        folder: the model.
        settings: of the run.
        device: where to run it.
    """

    def __init__(self, volume: Volume, folder: ModelFolder, settings: Settings, device: Device) -> None:
        self.volume, self.folder, self.settings, self.device = volume, folder, settings, device

    def predict(self, reporter: Reporter) -> Prediction:
        """Labels of the scan.

        Raises:
            DependencyError: nnunetv2 is not installed.
            ModelError: nnU-Net cannot run the folder either.
        """
        folder, reason = self.folder, self.folder.needs_fallback
        try:
            import nnunetv2  # noqa: F401
        except ImportError as error:
            raise DependencyError(
                _('model {name} needs nnU-Net itself ({reason}): pip install "heartseg[train]"').format(
                    name=folder.name, reason=reason
                )
            ) from error
        reporter.announce(
            _("model {name}: {reason}; nnU-Net's own predictor processes the whole image").format(
                name=folder.name, reason=reason
            )
        )
        checkpoints = [load_checkpoint(path, folder.sha256(path)) for path in folder.checkpoints]
        turned = folder.turns_scans(self.settings.reorient)
        try:
            labels = self._labels(self._predictor(checkpoints), turned, reporter)
        except (RuntimeError, KeyError, ValueError, AttributeError) as error:
            raise ModelError(
                _("nnU-Net cannot run model {name}: {error}").format(name=folder.name, error=error)
            ) from error
        finding = Finding(
            "nnunet-fallback",
            Severity.INFO,
            (
                _("{reason}: predicted by nnU-Net itself, LPS axes, whole image")
                if turned
                else _("{reason}: predicted by nnU-Net itself, stored axes, whole image")
            ).format(reason=reason),
        )
        mirrored = len(mirror_combinations(checkpoints[0]["mirroring_axes"] or ())) if self.settings.accurate else 1
        run = RunFacts(mode=Way.NNUNET.value, mirrored_copies=mirrored)
        return Prediction(folder.structure_lut()[labels.astype(np.uint8)], run, (finding,))

    def _predictor(self, checkpoints: list[dict[str, Any]]) -> Any:
        """nnU-Net's predictor with these weights."""
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        folder = self.folder
        plans = PlansManager(dict(folder.plans))
        configuration = plans.get_configuration(folder.configuration)
        predictor = nnUNetPredictor(
            tile_step_size=self.settings.tile_step,
            use_mirroring=self.settings.accurate,
            perform_everything_on_device=self.device.type == "cuda",
            device=torch.device(str(self.device)),
            allow_tqdm=False,
        )
        network = get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            folder.num_input_channels,
            plans.get_label_manager(dict(folder.dataset)).num_segmentation_heads,
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
        return predictor

    def _labels(self, predictor: Any, turned: bool, reporter: Reporter) -> np.ndarray:
        """nnU-Net's label values ``(z, y, x)`` in the scan's stored axes."""
        flip, lps = to_nearest_lps(self.volume.geometry)
        array = np.ascontiguousarray(flip.apply(self.volume.array)) if turned else self.volume.array
        spacing = list((lps if turned else self.volume.geometry).spacing[::-1])
        with reporter.stage("predict"):
            labels = predictor.predict_single_npy_array(
                array[None].astype(np.float32), {"spacing": spacing}, None, None, False
            )
        return np.ascontiguousarray(flip.undo(labels)) if turned else labels
