"""Where a worker stands among all: workers are not replicas.

Processes are the points of a mesh. Along its axis `data` they see other examples; along `stage`
and `model` they hold other parts of one replica, and see the same examples. What belongs to
data parallelism counts along the axis `data` alone: how many replicas there are, the rows that
a worker reads, means, the random numbers of dropout, global metrics.
"""

import dataclasses
import math

# From the slowest to the quickest: workers of neighbouring ranks, which often share a machine,
# are neighbours along `model`, where most is said.
AXES = ("data", "stage", "model")


@dataclasses.dataclass(frozen=True)
class Mesh:
    """The numbers of workers along the axes.

    Example:

    >>> from tfdist.strategies.place import Mesh
    >>> mesh = Mesh(data=2, model=2)
    >>> mesh.size, mesh.coordinates(3)
    (4, {'data': 1, 'stage': 0, 'model': 1})

    Args:
        data: int, along which workers see other examples.
        stage: int, along which they hold other layers.
        model: int, along which they hold other parts of the same layers.
    """

    data: int = 1
    stage: int = 1
    model: int = 1

    def __post_init__(self) -> None:
        for axis in AXES:
            size = getattr(self, axis)
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"Mesh({axis}={size!r}): expected an int of at least 1.")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Tuple of the sizes, in the order of `AXES`."""
        return tuple(getattr(self, axis) for axis in AXES)

    @property
    def size(self) -> int:
        """How many workers there are."""
        return math.prod(self.sizes)

    def coordinates(self, rank: int) -> dict[str, int]:
        """Dict of the coordinates of the worker `rank`, by axis."""
        if not 0 <= rank < self.size:
            raise ValueError(f"rank={rank}: expected one from 0 to {self.size - 1}, as {self} has.")
        found = {}
        for axis in reversed(AXES):
            rank, found[axis] = divmod(rank, getattr(self, axis))
        return {axis: found[axis] for axis in AXES}


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of a worker on a mesh.

    Example: the second worker of two that share one replica's weights.

    >>> from tfdist.strategies.place import Mesh, Place
    >>> place = Place(Mesh(model=2), rank=1)
    >>> place.num_replicas, place.num_local_replicas, place.first_replica
    (1, 1, 0)

    Args:
        mesh: the `Mesh` of all workers.
        rank: int, this worker's among them.
        num_local_replicas: int, the data-parallel replicas of which each worker holds a
            part, or the whole; the same on all.
    """

    mesh: Mesh = Mesh()
    rank: int = 0
    num_local_replicas: int = 1

    @property
    def data_index(self) -> int:
        """This worker's coordinate along the axis `data`."""
        return self.mesh.coordinates(self.rank)["data"]

    @property
    def num_replicas(self) -> int:
        """Data-parallel replicas of all workers."""
        return self.mesh.data * self.num_local_replicas

    @property
    def first_replica(self) -> int:
        """The index of this worker's first replica among all."""
        return self.data_index * self.num_local_replicas
