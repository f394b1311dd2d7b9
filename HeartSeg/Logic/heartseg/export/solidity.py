"""Check whether a surface is printable: closed, manifold, consistently oriented, without degenerate triangles."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .surfaces import Mesh


@dataclass(frozen=True)
class Solidity:
    """Counts and faults of a mesh.

    Attributes:
        points, triangles: number of points and triangles.
        shells: number of connected components (at least two for a hollow body: outside and inside).
        open_edges: edges with one triangle (at a hole).
        crowded_edges: edges with more than two triangles.
        misoriented_edges: edges whose two triangles have opposite orientation.
        degenerate_triangles: triangles with a repeated corner or zero area.
        volume_ml: enclosed volume without that of inner shells, mL.
        area_cm2: surface area, cm².
    """

    points: int
    triangles: int
    shells: int
    open_edges: int
    crowded_edges: int
    misoriented_edges: int
    degenerate_triangles: int
    volume_ml: float
    area_cm2: float

    @property
    def watertight(self) -> bool:
        """Whether all edges have two consistently oriented triangles, none is degenerate and the volume is positive."""
        faults = self.open_edges + self.crowded_edges + self.misoriented_edges + self.degenerate_triangles
        return self.triangles > 0 and faults == 0 and self.volume_ml > 0

    def to_dict(self) -> dict[str, Any]:
        return {"watertight": self.watertight, **asdict(self)}


def check_solidity(mesh: Mesh) -> Solidity:
    """Count the faults that prevent printing a mesh. Points with different indices are different."""
    from scipy import sparse
    from scipy.sparse import csgraph

    count, (a, b, c) = len(mesh.points), mesh.triangles.T
    corners = mesh.points[mesh.triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    degenerate = (a == b) | (b == c) | (a == c) | (area <= 0)
    start, stop = np.concatenate([a, b, c]), np.concatenate([b, c, a])
    code = np.minimum(start, stop) * count + np.maximum(start, stop)
    order = np.argsort(code)
    first = np.flatnonzero(np.diff(code[order], prepend=-1))  # where the next edge begins
    uses = np.diff(first, append=len(order))
    # Two triangles with consistent orientation traverse their common edge in opposite directions.
    balance = np.add.reduceat(np.where(start < stop, 1, -1)[order], first) if len(order) else np.zeros(0)
    edges = code[order][first]
    graph = sparse.coo_matrix(
        (np.ones(len(edges), np.int8), (edges // max(count, 1), edges % max(count, 1))), shape=(count, count)
    )
    return Solidity(
        points=count,
        triangles=len(mesh),
        shells=int(csgraph.connected_components(graph, directed=False)[0]) if count else 0,
        open_edges=int(np.count_nonzero(uses == 1)),
        crowded_edges=int(np.count_nonzero(uses > 2)),
        misoriented_edges=int(np.count_nonzero((uses == 2) & (balance != 0))),
        degenerate_triangles=int(np.count_nonzero(degenerate)),
        volume_ml=mesh.volume_ml,
        area_cm2=float(area.sum() / 100.0),
    )
