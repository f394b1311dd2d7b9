"""Running a network by OpenVINO on the processor, from its graph without torch, or from a network of torch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ..devices import cpu_threads
from ..errors import DependencyError, ModelError, one_line
from ..models.graph import GraphNetwork, with_weights
from ..wording import _

if TYPE_CHECKING:
    from torch import nn

_POLL_MILLISECONDS = 50


class OpenVINOPredictor:
    """A compiled network, which keeps the memory of its layers from tile to tile.

    Args:
        compiled: OpenVINO's ``CompiledModel``.
        check: raises to cancel.
    """

    def __init__(self, compiled: Any, check: Callable[[], None]) -> None:
        self._compiled, self._check = compiled, check
        self._request = compiled.create_infer_request()

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Logits of a batch of tiles."""
        from openvino import Tensor

        logits = np.empty((len(batch), *list(self._compiled.output(0).shape)[1:]), np.float32)
        for one, out in zip(batch, logits, strict=True):
            self._request.set_input_tensor(0, Tensor(np.ascontiguousarray(one[None]), shared_memory=True))
            self._request.set_output_tensor(0, Tensor(out[None], shared_memory=True))
            self._request.start_async()
            while not self._request.wait_for(_POLL_MILLISECONDS):
                try:
                    self._check()
                except BaseException:
                    self._request.cancel()
                    with suppress(RuntimeError):  # that it was cancelled
                        self._request.wait()  # it uses the arrays until then
                    raise
        return logits

    def free(self) -> None:
        """Release the memory of the layers; the next tile takes it again, which costs a tenth of a second or so."""
        self._request = None
        self._compiled.release_memory()
        self._request = self._compiled.create_infer_request()


def openvino_predictor(
    network: GraphNetwork | nn.Module,
    shape: tuple[int, ...],
    precision: str,
    check: Callable[[], None],
    threads: int | None,
) -> OpenVINOPredictor:
    """The network compiled for this processor; polls ``check`` so that a cancel works inside a tile.

    Args:
        network: the network. A graph is compiled in less than a second, a network of torch in about ten.
        shape: channels of a tile, then its voxels ``(z, y, x)``.
        precision: ``"float32"`` or ``"bfloat16"``, which is faster on processors that have it.
        check: raises to cancel.
        threads: of the processor; ``None`` for the default.

    Raises:
        DependencyError: the package ``openvino`` is not installed.
        ModelError: OpenVINO does not accept the graph.
    """
    try:
        import openvino
    except ImportError as error:
        raise DependencyError(
            _('backend openvino needs OpenVINO ({error}): pip install "heartseg[openvino]"').format(error=error)
        ) from None
    core = openvino.Core()
    if isinstance(network, GraphNetwork):
        try:
            model = core.read_model(with_weights(network))
        except RuntimeError as error:
            raise ModelError(
                _("OpenVINO {version} refuses the graph ({error:.120}): copy the model again").format(
                    version=openvino.__version__, error=one_line(error)
                )
            ) from None
    else:
        import torch

        example = torch.zeros(1, shape[0], *(p if p == 1 else max(32, min(p, 64)) for p in shape[1:]))
        with torch.inference_mode():
            model = openvino.convert_model(network, example_input=example)
    model.reshape([1, *shape])
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": cpu_threads(threads),
        "ENABLE_CPU_PINNING": False,
    }
    return OpenVINOPredictor(core.compile_model(model, "CPU", options), check)
