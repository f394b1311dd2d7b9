"""Compare label maps with references: one case, or two folders.

Apart from what segments: nothing here runs a model, and nothing that segments imports this package. The metrics of
surfaces are MONAI's (``pip install 'heartseg[evaluate]'``).
"""

from ..volume.label_maps import LABEL_SETS
from .files import check_targets, write_files
from .pairs import pair_folders, result_file
from .scores import TOLERANCES_MM, Evaluation, StructureScore, evaluate, metric_names
from .study import MEAN, Spread, Study, evaluate_folders
from .tables import format_evaluation, format_study, to_dict, write_csv, write_json

__all__ = [
    "LABEL_SETS",
    "MEAN",
    "TOLERANCES_MM",
    "Evaluation",
    "Spread",
    "StructureScore",
    "Study",
    "check_targets",
    "evaluate",
    "evaluate_folders",
    "format_evaluation",
    "format_study",
    "metric_names",
    "pair_folders",
    "result_file",
    "to_dict",
    "write_csv",
    "write_files",
    "write_json",
]
