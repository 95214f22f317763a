"""A critic on disk: an artifact with its weights, its sizes, and which generator it reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.artifact import create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch
from personalize.rewards.critic import Critic

KIND = "critic"


@dataclass(frozen=True)
class StoredCritic:
    """A critic with what it was made for.

    Attributes:
        critic: In evaluation mode, on the CPU.
        checkpoint_hash: Content hash of the generator's checkpoint whose encoding it reads.
        facts: What was written beside it: its losses and how well it ranks.
    """

    critic: Critic
    checkpoint_hash: str
    facts: Mapping[str, Any]

    def for_checkpoint(self, content_hash: str) -> Critic:
        """The critic, for the generator it was made with.

        Raises:
            ArtifactMismatch: If it was made with another one, whose encoding means something else.
        """
        if content_hash != self.checkpoint_hash:
            raise ArtifactMismatch(
                "The critic reads what another checkpoint encodes; write one with this checkpoint."
            )
        return self.critic


def write_critic(
    out: Path,
    critic: Critic,
    *,
    command: str,
    configuration: Mapping[str, Any],
    inputs: Mapping[str, str],
    facts: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write an artifact `critic`.

    Args:
        out: Folder to write.
        critic: The critic.
        command: Who writes it.
        configuration: The command's options.
        inputs: Content hash by name; `checkpoint` must be among them.
        facts: Numbers about it, as plain JSON values.
        overwrite: Replace what is there.

    Raises:
        InputError: If the folder may not be written.
    """
    weights = {name: value.detach().cpu().numpy() for name, value in critic.state_dict().items()}
    with create_artifact(
        out,
        kind=KIND,
        command=command,
        configuration=configuration,
        inputs=inputs,
        overwrite=overwrite,
    ) as writer:
        writer.write_arrays(KIND, weights)
        settings = {"discount": critic.discount, "expectile": critic.expectile}
        writer.write_json(KIND, {**critic.sizes, **settings})
        writer.notes.update(facts)


def read_critic(folder: Path) -> StoredCritic:
    """A critic that `write_critic` wrote.

    Raises:
        ArtifactMismatch: If the artifact is damaged, of another kind, or of another version.
    """
    source = read_artifact(folder, kind=KIND)
    try:
        critic = Critic(**source.json(KIND))
        critic.load_state_dict(
            {name: torch.from_numpy(np.array(v)) for name, v in source.arrays(KIND).items()}
        )
        checkpoint = source.manifest.inputs["checkpoint"]
    except (TypeError, RuntimeError, KeyError) as error:
        raise ArtifactMismatch(
            f"{folder} holds a critic of another version: {' '.join(str(error).split())[:200]}"
        ) from error
    return StoredCritic(critic.eval(), checkpoint, source.manifest.notes)
