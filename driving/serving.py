"""Driving as the server asks for it: search, plans, pictures and preferences of logged scenes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.artifact import Artifact
from data_prep.errors import ArtifactMismatch, InputError
from data_prep.scenes.style_dimensions import STYLE_DIMENSIONS, STYLE_LABELS
from data_prep.schema import SPLITS
from driving.embed import LAYOUT, SCENE_VECTORS, read_layout
from driving.evaluation.planners import NamedPlanner, open_planner
from driving.scene_store import SceneStore
from driving.served_plans import Driver
from driving.served_preferences import DriverPreferences
from driving.served_scenes import ServedScenes
from driving.served_search import SceneSearch
from driving.served_steering import PlanSteering
from driving.served_view import scene_view
from personalize.api.files import ServedFiles
from personalize.api.messages import (
    PlanAnswer,
    PlanRequest,
    PreferencesAnswer,
    ReadRequest,
    SceneQuery,
    ScenesFound,
    ScenesPage,
    SceneView,
)
from personalize.api.ports import Answers, RequestRefused, ScenesHalf, ScenesSource
from personalize.api.retriever import RetrieverSource
from personalize.api.steered import chain_inside
from personalize.checkpoint import generator_checkpoint
from personalize.conditioning.text import EMBEDDED, SentenceEncoder
from personalize.steering.chain import Chain

RULES = "idm"
"""Plans where no checkpoint is served."""


@dataclass(frozen=True)
class Scenes(ScenesSource):
    """Serves a planner and the scenes it may plan in; all paths are meant from the served root.

    Attributes:
        scenes: Artifact of data-prep.
        styles: Artifact of driving annotate, whose samples are served.
        checkpoint: A planner's run, whose best one is taken, or a checkpoint. Without one the
            rule-based IDM planner plans, which takes styles too.
        scene_vectors: Artifact of driving embed. Without one nothing is searched.
        retriever: Searches these vectors.
        encoder: Sentence model that the texts were embedded with.
        gate: In closed loop, candidates that seem unsafe are passed over, whatever the style.
        guidance: Strength of the style, where the planner has this option. Default: its own.
        safety_gate: Of the planner's own selection, 0 to 1, where it has one. Default: its own.
        reactive: In closed loop, other vehicles react instead of repeating the log.
        splits: Which samples are served.
        steering: Chains by name, which styles may ask for; of diffusion planners only.
        goal_space: Artifact `steerability` whose limits the goals have. By default they are fitted
            as that evaluation fits them, which takes some seconds.
    """

    scenes: Path
    styles: Path
    checkpoint: Path | None = None
    scene_vectors: Path | None = None
    retriever: RetrieverSource | None = None
    encoder: str = EMBEDDED
    gate: bool = True
    guidance: float | None = None
    safety_gate: float | None = None
    reactive: bool = True
    splits: tuple[str, ...] = SPLITS
    steering: dict[str, Chain] | None = None
    goal_space: Path | None = None

    def open(self, files: ServedFiles) -> "OpenScenes":
        """Read all artifacts and compare what each was made from.

        Raises:
            NotServedError: If one is not there.
            InputError: If one is damaged, does not fit the others, or an option is wrong.
        """
        logs = files.artifact(self.scenes, kind="scenes")
        styles = files.artifact(self.styles, kind="styles")
        if styles.manifest.inputs.get("scenes", logs.content_hash) != logs.content_hash:
            raise ArtifactMismatch(
                f"{styles.folder} was made from other scenes than {logs.folder}; run driving "
                "annotate on these."
            )
        served = ServedScenes.of(logs, styles, self.splits)
        store = SceneStore.of(logs)
        named = self._planner(files)
        vectors = self._vectors(files, styles)
        steering = self._steering(files, named, logs, styles)
        return OpenScenes(
            store=store,
            scenes=served,
            driver=Driver(
                store,
                served,
                named,
                gate=self.gate,
                reactive=self.reactive,
                steering=steering,
            ),
            preferences=DriverPreferences.of(served, styles),
            search=None if vectors is None else self._search(files, served, vectors),
            about=_about(self, named, {"scenes": logs, "styles": styles, "vectors": vectors}),
        )

    def _planner(self, files: ServedFiles) -> NamedPlanner:
        given = {"guidance": self.guidance, "selection.safety_gate": self.safety_gate}
        changes = {name: value for name, value in given.items() if value is not None}
        if self.checkpoint is None:
            return open_planner(
                checkpoint=None, rules=RULES, name=None, changes=changes, device="cpu"
            )
        folder = files.inside(generator_checkpoint(files.there(self.checkpoint), "planner"))
        return open_planner(checkpoint=folder, rules=None, name=None, changes=changes, device="cpu")

    def _steering(
        self, files: ServedFiles, named: NamedPlanner, logs: Artifact, styles: Artifact
    ) -> PlanSteering | None:
        """What steers, if anything does; files that chains name are meant from the root."""
        if not self.steering:
            return None
        chains = {name: chain_inside(chain, files) for name, chain in self.steering.items()}
        evaluated = None
        if self.goal_space is not None:
            evaluated = files.artifact(self.goal_space, kind="steerability")
        return PlanSteering.of(chains, named, scenes=logs, styles=styles, evaluated=evaluated)

    def _vectors(self, files: ServedFiles, styles: Artifact) -> Artifact | None:
        if (self.scene_vectors is None) != (self.retriever is None):
            raise InputError("scene_vectors and retriever go together: give both, or neither.")
        if self.scene_vectors is None:
            return None
        vectors = files.artifact(self.scene_vectors, kind="scene_vectors")
        if vectors.manifest.inputs.get("styles") != styles.content_hash:
            raise ArtifactMismatch(
                f"{vectors.folder} was made from other styles than {styles.folder}; run driving "
                "embed on these."
            )
        return vectors

    def _search(
        self, files: ServedFiles, served: ServedScenes, vectors: Artifact
    ) -> SceneSearch | None:
        if self.retriever is None:
            return None
        layout, table = read_layout(vectors), vectors.table(SCENE_VECTORS)
        values = vectors.arrays("scene_vectors")["values"]
        if values.shape != (table.height, layout.width):
            raise ArtifactMismatch(f"{vectors.folder} has not one vector per sample; embed again.")
        return SceneSearch(
            scenes=served,
            retriever=self.retriever.open(files, vectors_hash=vectors.content_hash),
            vectors=np.asarray(values),
            row_of=dict(table.select("sample_id", "vector_row").iter_rows()),
            layout=layout,
            encoder=self._sentence_model(vectors) if layout.text else None,
        )

    def _sentence_model(self, vectors: Artifact) -> SentenceEncoder:
        model = SentenceEncoder(self.encoder, device="cpu")
        made_with = vectors.json(LAYOUT)
        if model.fingerprint != made_with.get("fingerprint"):
            raise ArtifactMismatch(
                f"{vectors.folder} was embedded with the sentence model "
                f"{made_with.get('encoder')}, not with {self.encoder}; name that one."
            )
        return model


class OpenScenes(ScenesHalf):
    """The half that answers; see `Scenes`."""

    def __init__(
        self,
        *,
        store: SceneStore,
        scenes: ServedScenes,
        driver: Driver,
        preferences: DriverPreferences,
        search: SceneSearch | None,
        about: Mapping[str, Any],
    ) -> None:
        self._store, self._scenes, self._driver = store, scenes, driver
        self._preferences, self._search, self._about = preferences, search, about

    def facts(self) -> Mapping[str, Any]:
        """What is served, as plain JSON values."""
        counts = {
            "scenes": len(self._scenes),
            "recordings": self._scenes.samples["scene_id"].n_unique(),
            "splits": sorted(self._scenes.samples["split"].unique()),
            "scenario_types": sorted({text.scenario_type for text in self._scenes.texts}),
            "style_dimensions": list(STYLE_DIMENSIONS),
            "presets": list(STYLE_LABELS),
            "steering": self._driver.steering and self._driver.steering.facts(),
        }
        if self._search is None:
            return {**self._about, **counts, "search": None}
        asked = ["style", "like"] if self._search.encoder is None else ["text", "style", "like"]
        search = {
            "by": asked,
            "vectors": len(self._search.row_of),
            "layout": vars(self._search.layout),
            "retriever": dict(self._search.retriever.facts()),
        }
        return {**self._about, **counts, "search": search}

    def self_query(self) -> None:
        """Search, plan, read and look at the first scene.

        Raises:
            InputError: If it cannot answer.
        """
        first = {"scene": self._scenes.ids[0]}
        if self._search is not None:
            words = {} if self._search.encoder is None else {"text": "a busy intersection"}
            asked = {"collection": "scenes", "style": {STYLE_DIMENSIONS[0]: 0.5}, **words}
            _answered(self.retrieve([SceneQuery.model_validate(asked)]))
        styles = [{"name": "open"}, {"name": "normal", "preset": "normal"}]
        if (steering := self._driver.steering) is not None:
            goals = dict.fromkeys(steering.space.names, 1.0)
            for chain in steering.chains:
                own = [{"name": chain, "steering": {"chain": chain, "goals": goals}}]
                _answered(self.plan([PlanRequest.model_validate({**first, "styles": own})]))
        _answered(self.plan([PlanRequest.model_validate({**first, "styles": styles})]))
        self.read(ReadRequest.model_validate(first))
        self.scene(first["scene"])

    def retrieve(self, queries: Sequence[SceneQuery]) -> Answers[ScenesFound]:
        """The scenes nearest to every query."""
        if self._search is None:
            refused = RequestRefused(
                "Scenes are served without vectors to search; run driving embed."
            )
            return [refused for _ in queries]
        return self._search.retrieve(queries)

    def plan(self, requests: Sequence[PlanRequest]) -> Answers[PlanAnswer]:
        """Trajectories in a scene, one per style asked for, with sub-scores."""
        return self._driver.plan(requests)

    def read(self, request: ReadRequest) -> PreferencesAnswer:
        """The preferences a driver shows in a scene, and the style vector.

        Raises:
            RequestRefused: If there is no such scene, or reviews are to be read.
        """
        return self._preferences.read(request)

    def scenes(self, query: str, *, start: int, count: int) -> ScenesPage:
        """Scenes whose description, place, kind, label or id has these words; else all."""
        rows = self._scenes.having(query)
        page = rows[start : start + count]
        return ScenesPage(total=len(rows), scenes=[self._scenes.scene(row) for row in page])

    def scene(self, scene: str) -> SceneView:
        """What a scene looks like from above.

        Raises:
            RequestRefused: If there is none of this id.
        """
        row = self._scenes.row(scene)
        (map_id,) = self._store.scenes.filter(
            self._store.scenes["scene_id"] == self._scenes.samples["scene_id"][row]
        )["map_id"]
        return scene_view(
            self._scenes.scene(row), self._driver.world(row), self._store.maps[map_id]
        )


def _about(
    source: Scenes, named: NamedPlanner, artifacts: Mapping[str, Artifact | None]
) -> dict[str, Any]:
    """What never changes while it is served."""
    hashes = {name: one.content_hash for name, one in artifacts.items() if one is not None}
    return {
        "planner": named.name,
        "planner_class": named.notes["class"],
        "parameters": named.notes.get("parameters"),
        "reads_style": named.reads_style,
        "gate": source.gate,
        "guidance": getattr(named.planner, "guidance", None),
        "reactive": source.reactive,
        "content_hashes": hashes
        | ({"checkpoint": named.content_hash} if named.content_hash else {}),
    }


def _answered(answers: Sequence[object]) -> None:
    for answer in answers:
        if isinstance(answer, RequestRefused):
            raise answer
