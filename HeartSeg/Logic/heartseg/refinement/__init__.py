"""Mend a result with a few marks: "this is RA", "this is not RA".

The network's probabilities, the present labels and the marks together decide each voxel near a mark.
"""

from .mender import METHOD, Change, Mender, Method
from .mending import Session, prior_of, refine
from .prior import Prior

__all__ = ["METHOD", "Change", "Mender", "Method", "Prior", "Session", "prior_of", "refine"]
