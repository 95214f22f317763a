"""The Intelligent Driver Model: how hard to accelerate behind whoever is ahead."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

HARDEST_BRAKING_MPS2 = 8.0
SHORTEST_GAP_M = 0.1


@dataclass(frozen=True)
class CarFollowing:
    """Parameters of the Intelligent Driver Model; their leading dimensions are free.

    Attributes:
        time_gap_s: Wanted behind a leader of equal speed.
        standstill_gap_m: Wanted in a queue.
        acceleration_mps2: From standstill on a free road.
        braking_mps2: Comfortable, positive.
    """

    time_gap_s: Float[Tensor, "*#batch"]
    standstill_gap_m: Float[Tensor, "*#batch"]
    acceleration_mps2: Float[Tensor, "*#batch"]
    braking_mps2: Float[Tensor, "*#batch"]

    def acceleration(
        self,
        speed_mps: Float[Tensor, "*#batch"],
        desired_mps: Float[Tensor, "*#batch"],
        gap_m: Float[Tensor, "*#batch"],
        leader_mps: Float[Tensor, "*#batch"],
    ) -> Float[Tensor, "*batch"]:
        """Acceleration along the path, from -8 m/s^2 to the parameters' own.

        Above the desired speed the free-road term brakes at most comfortably. The braking strategy
        never pulls, however fast the leader draws away.

        Args:
            speed_mps: Own speed, not negative.
            desired_mps: Speed on a free road.
            gap_m: From the front bumper to the leader's rear bumper; `inf` without a leader.
            leader_mps: The leader's speed along the path; it does not count without a leader.

        Source:
            Treiber, Hennecke and Helbing (2000), doi:10.1103/PhysRevE.62.1805, exponent 4. The
            bounds are ours.
        """
        comfortable = (self.acceleration_mps2 * self.braking_mps2).sqrt()
        closing_mps = torch.where(gap_m.isfinite(), speed_mps - leader_mps, 0.0)
        dynamic_m = speed_mps * self.time_gap_s + speed_mps * closing_mps / (2 * comfortable)
        wanted_m = self.standstill_gap_m + dynamic_m.clamp_min(0)
        free = self.acceleration_mps2 * (1 - (speed_mps / desired_mps.clamp_min(0.1)) ** 4)
        free = torch.maximum(free, -self.braking_mps2)
        crowded = self.acceleration_mps2 * (wanted_m / gap_m.clamp_min(SHORTEST_GAP_M)).square()
        return (free - crowded).clamp_min(-HARDEST_BRAKING_MPS2)

    def equilibrium_gap_m(
        self, speed_mps: Float[Tensor, "*#batch"], desired_mps: Float[Tensor, "*#batch"]
    ) -> Float[Tensor, "*batch"]:
        """The gap at which nobody accelerates: longer than `s0 + v T`, `inf` at desired speed."""
        wanted_m = self.standstill_gap_m + speed_mps * self.time_gap_s
        rest = 1 - (speed_mps / desired_mps) ** 4
        return torch.where(rest > 0, wanted_m / rest.clamp_min(1e-12).sqrt(), torch.inf)
