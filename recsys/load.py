"""A trained recommender read back from its checkpoint, with the data it was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.artifact import Artifact, read_artifact, read_manifest
from data_prep.errors import ArtifactMismatch
from personalize.checkpoint import KIND, generator_checkpoint, weights_of
from personalize.configured_class import built_again
from recsys.catalogue import Catalogue, catalogue_sizes
from recsys.recommender import Recommender
from recsys.stored_catalogue import load_catalogue

DATA_OPTIONS = ("tables", "vectors", "preferences", "semantic_ids")


@dataclass(frozen=True)
class LoadedRecommender:
    """A recommender and what it was trained with.

    Attributes:
        recommender: In evaluation mode, on the CPU.
        catalogue: What it was built from.
        folder: The checkpoint it comes from.
        paths: Artifacts that were read, by the name of their option.
        maximum_history: Newest steps of a history it was trained on.
        trained_on_validation: Whether validation interactions were training rows.
    """

    recommender: Recommender
    catalogue: Catalogue
    folder: Path
    paths: Mapping[str, Path]
    maximum_history: int
    trained_on_validation: bool

    @property
    def semantic_ids(self) -> Path | None:
        """The semantic IDs that were read, if any."""
        return self.paths.get("semantic_ids")


def load_recommender(
    checkpoint: Path,
    *,
    tables: Path | None = None,
    vectors: Path | None = None,
    semantic_ids: Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> LoadedRecommender:
    """The recommender of a checkpoint with its catalogue; paths default to those of the training.

    Args:
        checkpoint: A checkpoint, or a run whose best one is taken.
        tables: Artifact `reviews` to use instead.
        vectors: Artifact `vectors` to use instead.
        semantic_ids: Artifact `semantic_ids` to use instead.
        changes: Options of the recommender to change, by dotted name.

    Raises:
        InputError: If there is no checkpoint, or an option is changed that is not there.
        ArtifactMismatch: If an artifact is damaged, moved, or not the one trained on.
    """
    folder = generator_checkpoint(checkpoint, "recommender")
    given = {"tables": tables, "vectors": vectors, "semantic_ids": semantic_ids}
    paths = checkpoint_data_paths(folder) | {n: p for n, p in given.items() if p is not None}
    _check_inputs(folder, paths)
    catalogue = load_catalogue(paths["tables"], paths.get("vectors"), paths.get("semantic_ids"))
    data = checkpoint_configuration(folder)["data"]
    return LoadedRecommender(
        recommender=build_recommender(folder, catalogue=catalogue, changes=changes),
        catalogue=catalogue,
        folder=folder,
        paths=paths,
        maximum_history=int(data.get("maximum_history", 20)),
        trained_on_validation=bool(data.get("train_on_validation", False)),
    )


def worded_catalogue(loaded: LoadedRecommender, vectors: Path | None) -> Catalogue:
    """The catalogue with texts, for a recommender that was trained without any.

    Args:
        loaded: The recommender.
        vectors: Artifact `vectors`; not looked at where it was trained with one.
    """
    if vectors is None or "vectors" in loaded.paths:
        return loaded.catalogue
    return load_catalogue(loaded.paths["tables"], vectors, loaded.paths.get("semantic_ids"))


def build_recommender(
    checkpoint: Path, *, catalogue: Catalogue, changes: Mapping[str, Any] | None = None
) -> Recommender:
    """The recommender of a checkpoint, for a catalogue of the same sizes.

    Args:
        checkpoint: A checkpoint, or a run whose best one is taken.
        catalogue: Items of the same number, levels of the same sizes, vectors of the same width.
        changes: Options of the recommender to change, by dotted name, such as
            `{"ranking.prior": 0}`; those that shape the weights cannot be changed.

    Raises:
        InputError: If a changed option is not one of the recommender, or its value does not fit.
        ArtifactMismatch: If the catalogue has other sizes, or the class is gone or has changed.
    """
    folder = generator_checkpoint(checkpoint, "recommender")
    source = read_artifact(folder, kind=KIND)
    _check_sizes(source, catalogue)
    recommender = untrained_recommender(source, catalogue, changes)
    prefix = "recommender."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in weights_of(source).items()
        if name.startswith(prefix)
    }
    try:
        recommender.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtifactMismatch(
            f"{folder} does not fit {type(recommender).__name__} of this version: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    return recommender.eval()


def untrained_recommender(
    source: Artifact, catalogue: Catalogue, changes: Mapping[str, Any] | None = None
) -> Recommender:
    """The recommender a checkpoint's configuration names, with fresh weights."""
    return built_again(
        source,
        source.manifest.configuration["model"]["recommender"],
        Recommender,
        catalogue,
        skip=frozenset({"catalogue"}),
        changes=changes,
    )


def checkpoint_configuration(checkpoint: Path) -> Mapping[str, Any]:
    """The configuration a checkpoint was trained with."""
    return read_manifest(generator_checkpoint(checkpoint, "recommender")).configuration


def checkpoint_data_paths(checkpoint: Path) -> dict[str, Path]:
    """Artifacts a checkpoint was trained on, by the name of their option."""
    data = checkpoint_configuration(checkpoint)["data"]
    return {name: Path(data[name]) for name in DATA_OPTIONS if data.get(name)}


def _check_inputs(folder: Path, paths: Mapping[str, Path]) -> None:
    """Other vectors or codes make other numbers; the weights would answer nonsense."""
    trained_on = read_manifest(folder).inputs
    for name in ("vectors", "semantic_ids"):
        if name in trained_on and name in paths:
            found = read_manifest(paths[name]).content_hash
            if found != trained_on[name]:
                raise ArtifactMismatch(
                    f"{paths[name]} is not the {name} artifact {folder} was trained on; pass that "
                    "one or train again."
                )


def _check_sizes(source: Artifact, catalogue: Catalogue) -> None:
    expected, found = source.json("catalogue"), catalogue_sizes(catalogue)
    for name, value in expected.items():
        if found[name] != value:
            raise ArtifactMismatch(
                f"{source.folder} was trained with {name.replace('_', ' ')} {value}, this "
                f"catalogue has {found[name]}; pass the artifacts it was trained on."
            )
