"""The motion of one vehicle, as a batch of tensors."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Motion:
    """How a vehicle moves over time: the reference point is the centre of its box.

    Leading dimensions are free: scenes, or scenes and proposals. All in one world frame.

    Attributes:
        poses: x and y in metres and heading in radians (not wrapped).
        speed_mps: Along the heading; negative in reverse.
        acceleration_mps2: Along the heading.
        steering_rad: Angle of the front wheels.
        steering_rate_radps: Its change.
    """

    poses: Float[Tensor, "*batch step 3"]
    speed_mps: Float[Tensor, "*batch step"]
    acceleration_mps2: Float[Tensor, "*batch step"]
    steering_rad: Float[Tensor, "*batch step"]
    steering_rate_radps: Float[Tensor, "*batch step"]
