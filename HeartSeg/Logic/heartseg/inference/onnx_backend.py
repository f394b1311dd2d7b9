"""Running a network by ONNX Runtime on the processor, without torch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from ..devices import cpu_threads
from ..errors import DependencyError, ModelError, one_line
from ..models.graph import GraphNetwork
from ..wording import _
from .tiles import Predictor

_POLL_SECONDS = 0.05


def onnx_predictor(network: GraphNetwork, check: Callable[[], None], threads: int | None) -> Predictor:
    """The network in float32; polls ``check`` so that a cancel works inside a tile.

    Raises:
        DependencyError: the package ``onnxruntime`` is not installed.
        ModelError: ONNX Runtime does not accept the graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError(
            _('backend onnx needs ONNX Runtime ({error}): pip install "heartseg[light]"').format(error=error)
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = cpu_threads(threads), 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the cores alone
    options.enable_cpu_mem_arena = False  # gives the memory of a tile back after it
    options.log_severity_level = 3
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(w) for w in network.weights.values()]
    options.add_external_initializers(list(network.weights), values)
    try:
        session = onnxruntime.InferenceSession(network.graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # a class of its own for each kind
        raise ModelError(
            _("ONNX Runtime {version} refuses the graph ({error:.120}): copy the model again").format(
                version=onnxruntime.__version__, error=one_line(error)
            )
        ) from None
    name = session.get_inputs()[0].name

    def of_tile(tile: np.ndarray) -> np.ndarray:
        run = onnxruntime.RunOptions()
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(session.run, None, {name: tile}, run)
            while not wait([future], _POLL_SECONDS).done:
                try:
                    check()
                except BaseException:
                    run.terminate = True
                    raise
        try:
            return future.result()[0]
        except Exception as error:
            if "alloc" in str(error):  # a RuntimeException of its own, of an allocator or with std::bad_alloc
                raise MemoryError(one_line(error)) from None
            raise

    def run(batch: np.ndarray) -> np.ndarray:
        rows = [of_tile(np.ascontiguousarray(one[None])) for one in batch]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    return run
