"""Two halves that answer by simple rules, to try the server around them."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.errors import ArtifactMismatch
from personalize.api.files import ServedFiles
from personalize.api.journal import Journal
from personalize.api.messages import (
    AddedItem,
    Box,
    Conditioning,
    HistoryItem,
    Item,
    ItemFound,
    ItemQuery,
    ItemsFound,
    ItemsPage,
    NewItem,
    PlanAnswer,
    PlanRequest,
    PreferencesAnswer,
    Quote,
    ReadPreference,
    ReadRequest,
    Scene,
    SceneFound,
    SceneQuery,
    ScenesFound,
    ScenesPage,
    SceneView,
    StylePlanned,
    Trajectory,
    UsedWish,
    UserPage,
    UserView,
)
from personalize.api.ports import (
    Answers,
    ItemsHalf,
    ItemsSource,
    RequestRefused,
    ScenesHalf,
    ScenesSource,
)

CATALOGUE = {f"item-{number}": f"Thing number {number}" for number in range(20)}
STILL = Trajectory(
    step_s=0.5, start_s=0.5, x_m=[0.0], y_m=[0.0], heading_rad=[0.0], speed_mps=[0.0]
)


class SmallItems(ItemsHalf):
    """Ranks items by how many letters they share with what is wished."""

    def __init__(self, journal: Journal | None, pause_s: float, names: Mapping[str, str]) -> None:
        self.journal, self.pause_s = journal, pause_s
        self.names = dict(names)
        self.threads: set[int] = set()
        self.batches: list[int] = []
        for record in journal.entries if journal else []:
            self.names[str(record["id"])] = str(record["title"])

    def facts(self) -> Mapping[str, Any]:
        """Sizes."""
        return {"model": "small", "items": len(self.names), "attributes": []}

    def self_query(self) -> None:
        """Refuse where the catalogue is broken."""
        if "broken" in self.names:
            raise ArtifactMismatch("The small catalogue is broken.")

    def catch_up(self) -> None:
        """Read what was added."""
        for record in self.journal.news() if self.journal else []:
            self.names[str(record["id"])] = str(record["title"])

    def retrieve(self, queries: Sequence[ItemQuery]) -> Answers[ItemsFound]:
        """Names in the order of their number, turned by the wishes."""
        self.threads.add(threading.get_ident())
        self.batches.append(len(queries))
        time.sleep(self.pause_s)
        return [self._one(query) for query in queries]

    def _one(self, query: ItemQuery) -> ItemsFound | RequestRefused:
        unknown = [item for item in query.history or [] if item not in self.names]
        if unknown:
            return RequestRefused(f"There is no item {unknown[0]}.", param="history", status=404)
        if query.user == "explode":
            raise RuntimeError("kaboom")
        wishes = query.preferences or []
        shift = sum(len(wish.text or wish.attribute or "") for wish in wishes)
        chosen = [name for name in self.names if name not in (query.history or [])]
        chosen = chosen[shift % 7 :] + chosen[: shift % 7]
        found = [
            ItemFound(
                item=self.item(name),
                score=1.0 / (1 + place),
                score_change=0.0,
                rank_without_preferences=place + 1,
                reasons=[],
            )
            for place, name in enumerate(chosen[: query.k])
        ]
        return ItemsFound(
            model="small",
            mode=query.mode,
            history=query.history or [],
            preferences=[
                UsedWish(
                    text=wish.text or "attribute", polarity=wish.polarity, strength=wish.strength
                )
                for wish in wishes
            ],
            compared=len(chosen),
            items=found,
        )

    def read(self, request: ReadRequest) -> PreferencesAnswer:
        """The first word of every review is liked."""
        return PreferencesAnswer(
            extractor="small",
            extractor_version="1",
            preferences=[
                ReadPreference(
                    text=f"Likes {review.text.split()[0] if review.text.split() else 'silence'}.",
                    polarity="like",
                    aspect="word",
                    strength=1.0,
                    confidence=0.5,
                    evidence=[Quote(source=place, start=0, end=1, quote=review.text[:1])],
                )
                for place, review in enumerate(request.reviews or [])
            ],
            conditioning=Conditioning(encoder="none", dimensions=None, values=[0.5], mask=[True]),
        )

    def add(self, items: Sequence[NewItem]) -> Answers[AddedItem]:
        """Keep, then show."""
        if self.journal:
            self.journal.append([item.model_dump() for item in items])
        replies: Answers[AddedItem] = []
        for item in items:
            status = "changed" if item.id in self.names else "added"
            self.names[item.id] = item.title
            replies.append(AddedItem(id=item.id, status=status, semantic_id=[1]))
        return replies

    def items(self, query: str, *, start: int, count: int) -> ItemsPage:
        """Names that hold the words."""
        found = [name for name, title in self.names.items() if query.lower() in title.lower()]
        return ItemsPage(total=len(found), items=[self.item(n) for n in found[start:][:count]])

    def item(self, item: str) -> Item:
        """One item."""
        if item not in self.names:
            raise RequestRefused(f"There is no item {item[:50]}.", status=404)
        return Item(
            id=item,
            title=self.names[item],
            brand=None,
            categories=[],
            price_cents=100,
            semantic_id=[1, 2],
            added=item not in CATALOGUE,
        )

    def users(self, query: str, *, start: int, count: int) -> UserPage:
        """One user."""
        found = [name for name in ("ann",) if query in name]
        return UserPage(total=len(found), users=found[start:][:count])

    def user(self, user: str) -> UserView:
        """The one user."""
        if user != "ann":
            raise RequestRefused(f"There is no user {user[:50]}.", status=404)
        met = HistoryItem(
            item=self.item("item-3"), position=0, rating=5.0, review_id=0, review="Light."
        )
        return UserView(id=user, history=[met], preferences=[])


class SmallScenes(ScenesHalf):
    """One scene."""

    def facts(self) -> Mapping[str, Any]:
        """Sizes."""
        return {"planner": "still", "scenes": 1, "style_dimensions": ["speed"]}

    def self_query(self) -> None:
        """Always well."""

    def retrieve(self, queries: Sequence[SceneQuery]) -> Answers[ScenesFound]:
        """The one scene."""
        found = SceneFound(scene=self._scene(), score=1.0, similarities={"text": 1.0})
        return [ScenesFound(scenes=[found]) for _ in queries]

    def plan(self, requests: Sequence[PlanRequest]) -> Answers[PlanAnswer]:
        """Stand still."""
        return [self._planned(request) for request in requests]

    def _planned(self, request: PlanRequest) -> PlanAnswer | RequestRefused:
        if request.scene != "scene-0":
            return RequestRefused(f"There is no scene {request.scene[:50]}.", status=404)
        styles = [
            StylePlanned(
                name=style.name,
                style=style.style or {},
                plan=STILL,
                sub_scores={"score": 1.0},
                ride=None,
            )
            for style in request.styles
        ]
        return PlanAnswer(scene=request.scene, planner="still", styles=styles)

    def read(self, request: ReadRequest) -> PreferencesAnswer:
        """Nothing is shown."""
        return PreferencesAnswer(
            extractor="small",
            extractor_version="1",
            preferences=[],
            conditioning=Conditioning(
                encoder="style", dimensions=["speed"], values=[0.0], mask=[False]
            ),
        )

    def scenes(self, query: str, *, start: int, count: int) -> ScenesPage:
        """The one scene."""
        return ScenesPage(total=1, scenes=[self._scene()][start:][:count])

    def scene(self, scene: str) -> SceneView:
        """The one scene."""
        if scene != "scene-0":
            raise RequestRefused(f"There is no scene {scene[:50]}.", status=404)
        box = Box(kind="car", length_m=4.0, width_m=2.0, x_m=0.0, y_m=0.0, heading_rad=0.0)
        return SceneView(
            scene=self._scene(), lines=[], agents=[], ego=box, ego_past=STILL, ego_future=STILL
        )

    def _scene(self) -> Scene:
        return Scene(
            id="scene-0",
            source="small",
            split="test",
            location="here",
            scenario_type="standing",
            label="normal",
            description="Nobody moves.",
            style={"speed": 0.0},
            simulated=True,
        )


class Small(ItemsSource):
    """Small recommendations.

    Args:
        added: Journal of added items, inside the root.
        pause_s: How long a batch takes.
        names: A file of more names, one a line, inside the root; `broken` among them is damage.
    """

    def __init__(
        self, added: Path | None = None, pause_s: float = 0.0, names: Path | None = None
    ) -> None:
        self.added, self.pause_s, self.names = added, pause_s, names

    def open(self, files: ServedFiles) -> SmallItems:
        """Read the journal and the names."""
        journal = Journal(files.inside(self.added)) if self.added else None
        names = dict(CATALOGUE)
        if self.names:
            more = files.there(self.names).read_text().split()
            names |= {name: f"Thing named {name}" for name in more}
        return SmallItems(journal, self.pause_s, names)


class Still(ScenesSource):
    """One small scene."""

    def open(self, files: ServedFiles) -> SmallScenes:
        """Nothing to read."""
        return SmallScenes()
