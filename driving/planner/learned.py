"""SLOT LearnedPlanner: a planner with weights, and how it is trained."""

from abc import ABC, abstractmethod

from jaxtyping import Bool, Float
from torch import Tensor, nn

from driving.planner.batch import PlanningBatch
from driving.planner.planner import Planner, PlannerInput


class LearnedPlanner(nn.Module, Planner):
    """A planner that learns from logged and taught futures.

    Laws beside those of `Planner`, held by `tests/driving/test_learned_planners.py`: the loss of
    one batch is the same for the same seed of torch's generator; its gradient reaches every
    parameter; a row without a logged future changes nothing.
    """

    @abstractmethod
    def survey(
        self,
        scenes: PlannerInput,
        futures: Float[Tensor, "sample variant time 3"],
        mask: Bool[Tensor, "sample variant time"],
    ) -> None:
        """Look over all training futures once before the first step, for sizes and anchors.

        Depends on these alone, and does nothing where it has been done before: weights that are
        gone on with keep the anchors they were trained with.

        Args:
            scenes: A row per sample.
            futures: The logged future of every sample, and the teacher's that begin where it does.
            mask: Which steps are there.
        """

    @abstractmethod
    def loss(self, batch: PlanningBatch) -> dict[str, Float[Tensor, ""]]:
        """What to minimise as `loss`, and its parts by name; lower is better.

        Random numbers come from torch's own generator, which the caller seeds.
        """


class EncodesScenes(ABC):
    """A planner that can say what a scene is like, whatever the style."""

    @abstractmethod
    def scene_vectors(self, scene: PlannerInput) -> Float[Tensor, "batch width"]:
        """One vector per scene; like scenes have a large cosine."""
