"""A reward model on disk: an artifact with its weights, its parts, and what it was made of."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_prep.artifact import Artifact, create_artifact, read_artifact
from data_prep.errors import ArtifactMismatch
from personalize.rewards.preference_model import (
    FeatureEncoder,
    PreferenceHead,
    PreferenceModel,
    Sizes,
)

KIND = "reward_model"


@dataclass(frozen=True)
class StoredRewardModel:
    """A reward model with what it was made for.

    Attributes:
        model: In evaluation mode, on the CPU.
        sizes: Of the features it reads.
        facts: What was written beside it: how well it predicts, and what it was learnt from.
        content_hash: Of the artifact.
    """

    model: PreferenceModel
    sizes: Sizes
    facts: Mapping[str, Any]
    content_hash: str

    def for_widths(self, context_width: int, response_width: int) -> PreferenceModel:
        """The model, for features of these widths.

        Raises:
            ArtifactMismatch: If it reads features of other widths.
        """
        made = self.sizes.context_width, self.sizes.response_width
        if made != (context_width, response_width):
            raise ArtifactMismatch(
                f"The reward model reads {made[0]} numbers of a context and {made[1]} of a "
                f"response, but there are {context_width} and {response_width}; learn one here."
            )
        return self.model


def write_reward_model(
    out: Path,
    model: PreferenceModel,
    sizes: Sizes,
    *,
    configuration: Mapping[str, Any],
    inputs: Mapping[str, str],
    facts: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write an artifact `reward_model`.

    Args:
        out: Folder to write.
        model: The model.
        sizes: What it was built with.
        configuration: The command's options; `encoder` and `head` of its section `model` hold
            `class_path` and `init_args` of the two parts.
        inputs: Content hash by name of what it was learnt from.
        facts: Numbers about it, as plain JSON values.
        overwrite: Replace what is there.

    Raises:
        InputError: If the folder may not be written.
    """
    weights = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    parts = {name: configuration["model"][name] for name in ("encoder", "head")}
    with create_artifact(
        out,
        kind=KIND,
        command="personalize reward",
        configuration=configuration,
        inputs=inputs,
        overwrite=overwrite,
    ) as writer:
        writer.write_arrays(KIND, weights)
        writer.write_json(KIND, {"sizes": asdict(sizes), "names": model.names, **parts})
        writer.write_json("metrics", dict(facts))
        writer.notes.update(facts)


def read_reward_model(folder: Path) -> StoredRewardModel:
    """A reward model that `write_reward_model` wrote.

    Raises:
        ArtifactMismatch: If the artifact is damaged, of another kind, or of another version.
    """
    source = read_artifact(folder, kind=KIND)
    try:
        made = source.json(KIND)
        sizes = Sizes.of_plain(made["sizes"])
        model = _built(source, made, sizes)
        model.load_state_dict(
            {name: torch.from_numpy(np.array(v)) for name, v in source.arrays(KIND).items()}
        )
    except (TypeError, RuntimeError, KeyError) as error:
        raise ArtifactMismatch(
            f"{folder} holds a reward model of another version: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    return StoredRewardModel(model.eval(), sizes, source.manifest.notes, source.content_hash)


def _built(source: Artifact, made: Mapping[str, Any], sizes: Sizes) -> PreferenceModel:
    from personalize.configured_class import built_again

    skip = frozenset({"sizes", "hidden_width"})
    encoder = built_again(source, made["encoder"], FeatureEncoder, sizes, skip=skip)
    head = built_again(source, made["head"], PreferenceHead, sizes, encoder.width, skip=skip)
    return PreferenceModel(encoder, head)
