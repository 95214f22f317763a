"""Questions and answers of the API, the same over HTTP and from Python.

Numbers are finite: a NaN or an infinity in a question is refused. Names that a message does not
know are refused too, so that a misspelt filter does not pass silently. Ids are those of the raw
data (an item's key, a user's key), never our numbers.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from personalize.preferences.record import Polarity

MOST_FOUND = 1000
Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000, strip_whitespace=True)]
LongText = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
Strength = Annotated[float, Field(ge=0, le=1)]
Signed = Annotated[float, Field(ge=-1, le=1)]
StyleValues = dict[Annotated[str, StringConstraints(max_length=64)], Signed]
GoalValues = dict[Annotated[str, StringConstraints(max_length=64)], Strength]


class Message(BaseModel):
    """What all messages share."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class Wish(Message):
    """One preference that is stated: in words, or as a named attribute.

    `strength` 0 is as good as no wish, 1 is a wish as the model was trained on.
    """

    text: Text | None = Field(default=None, description="The wish in words.")
    attribute: Id | None = Field(
        default=None, description="A name from `attributes` of `/v1/info`."
    )
    polarity: Polarity = Field(default="like", description="Wanted, or to be avoided.")
    strength: Strength = Field(default=1.0, description="How much it matters.")

    @model_validator(mode="after")
    def _one_of_two(self) -> "Wish":
        if (self.text is None) == (self.attribute is None):
            raise ValueError("a preference has either a text or an attribute")
        return self


class ItemFilters(Message):
    """Which items may be found; what is not given filters nothing.

    Long lists stop at their first mistake: 100,000 of them would take seconds to name.
    """

    allow: list[Id] | None = Field(
        default=None, max_length=100_000, fail_fast=True, description="Only these items."
    )
    deny: list[Id] = Field(
        default=[], max_length=100_000, fail_fast=True, description="None of these items."
    )
    seen: Literal["exclude", "include"] = Field(
        default="exclude", description="Whether items of the history may be found."
    )
    categories: list[Id] | None = Field(
        default=None, max_length=1000, description="Only items in one of these categories."
    )
    brands: list[Id] | None = Field(
        default=None, max_length=1000, description="Only of these brands."
    )
    least_price_cents: int | None = Field(default=None, ge=0, description="Not cheaper.")
    most_price_cents: int | None = Field(
        default=None, ge=0, description="Not dearer; an item without a price passes no limit on it."
    )


class Steering(Message):
    """Towards what an answer is steered, and what steers it."""

    chain: Id = Field(description="A name from `steering.chains` of `/v1/info`.")
    goals: GoalValues = Field(
        default={},
        max_length=64,
        description="0 to 1 by names from `steering.goals`; what is not named is left open. "
        "Without any the answer is that without steering.",
    )


class GoalValue(Message):
    """A value of one goal."""

    normalized: float = Field(description="From 0 to 1: cut at the limits that `/v1/info` names.")
    raw: float = Field(description="In the goal's unit, as it was measured.")


class GoalReached(Message):
    """What became of one goal."""

    name: str
    wanted: float
    without: GoalValue | None = Field(
        description="Of the answer without steering; null where it cannot be measured."
    )
    reached: GoalValue | None = Field(description="Of this answer; null likewise.")


class Steered(Message):
    """What steered an answer, and how near it came."""

    chain: str
    goals: list[GoalReached] = Field(description="Those asked for.")


class ItemQuery(Message):
    """What to recommend to whom."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "collection": "items",
                    "user": "town-user-000007",
                    "preferences": [
                        {"text": "Looks for light things that are easy to carry."},
                        {"attribute": "sound", "polarity": "avoid", "strength": 0.5},
                    ],
                    "mode": "hybrid",
                    "k": 5,
                    "filters": {"most_price_cents": 20000},
                }
            ]
        }
    )

    collection: Literal["items"] = "items"
    user: Id | None = Field(
        default=None, description="Whose history and preferences are the default."
    )
    history: list[Id] | None = Field(
        default=None,
        max_length=1000,
        description="Items met, oldest first. Default: the user's, or none.",
    )
    preferences: list[Wish] | None = Field(
        default=None,
        max_length=32,
        description="Default: what was read in the user's reviews. An empty list is none at all.",
    )
    mode: Literal["dense", "generative", "hybrid"] = Field(
        default="hybrid",
        description="Nearest vectors; semantic IDs generated by beam search; or both: generated "
        "candidates and items that came later, ranked by vectors.",
    )
    k: int = Field(default=10, ge=1, le=MOST_FOUND, description="Items wanted.")
    filters: ItemFilters = ItemFilters()
    explain: bool = Field(
        default=True, description="Say which preference moved each item, and how much."
    )
    steering: Steering | None = Field(
        default=None,
        description="What the list as a whole should be like. In the mode dense, scores are "
        "tilted; in the others, semantic IDs are generated towards it.",
    )


class Reason(Message):
    """What one preference did to one item: the comparison with leaving only it out."""

    preference: int = Field(description="Its place in `preferences` of the answer, from 0.")
    score_change: float = Field(description="Score with all preferences less that without this.")
    rank_without: int | None = Field(
        description="Place without it, 1 is first; null if not among those compared."
    )


class Item(Message):
    """One thing of the catalogue."""

    id: str
    title: str | None
    brand: str | None
    categories: list[str]
    price_cents: int | None
    description: str | None = None
    semantic_id: list[int]
    added: bool = Field(description="It came after training; the model knows its text and codes.")


class ItemFound(Message):
    """One recommendation."""

    item: Item
    score: float = Field(
        description="Higher is better; comparable within one answer only. Steered, it holds what "
        "closeness to the goals is worth; lists sought to be diverse may not descend in it."
    )
    score_change: float = Field(description="Score less that without any preference; 0 if none.")
    rank_without_preferences: int | None = Field(
        description="Place without any preference, 1 is first; null if not among those compared."
    )
    reasons: list[Reason] = Field(description="Largest effect first; empty without `explain`.")


class UsedWish(Message):
    """A preference as it was used."""

    text: str
    polarity: Polarity
    strength: float
    attribute: str | None = None


class ItemsFound(Message):
    """Recommendations, best first."""

    collection: Literal["items"] = "items"
    model: str
    mode: Literal["dense", "generative", "hybrid"]
    history: list[str] = Field(description="Items that were read, oldest first.")
    preferences: list[UsedWish]
    compared: int = Field(
        description="Items among which ranks without preferences are counted; steered, the items "
        "found, with the same worth of goals."
    )
    items: list[ItemFound]
    steered: Steered | None = None


class SceneFilters(Message):
    """Which scenes may be found; what is not given filters nothing."""

    allow: list[Id] | None = Field(
        default=None, max_length=100_000, fail_fast=True, description="Only these scenes."
    )
    deny: list[Id] = Field(
        default=[], max_length=100_000, fail_fast=True, description="None of these scenes."
    )
    splits: list[Literal["train", "validation", "test"]] | None = None
    scenario_types: list[Id] | None = Field(default=None, max_length=100)


class SceneQuery(Message):
    """Which scenes to find: at least one of text, style and `like`; several are averaged."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "collection": "scenes",
                    "text": "roundabout with many vehicles near",
                    "style": {"speed": 0.8, "time_gap": -0.8},
                    "k": 5,
                }
            ]
        }
    )

    collection: Literal["scenes"]
    text: Text | None = Field(
        default=None, description="A situation or a way of driving, in words."
    )
    style: StyleValues | None = Field(
        default=None, description="How the driver drives: -1 to 1 by names from `style_dimensions`."
    )
    like: Id | None = Field(default=None, description="A scene that those found should resemble.")
    k: int = Field(default=10, ge=1, le=MOST_FOUND, description="Scenes wanted.")
    filters: SceneFilters = SceneFilters()

    @model_validator(mode="after")
    def _something(self) -> "SceneQuery":
        if self.text is None and not self.style and self.like is None:
            raise ValueError("a query for scenes has a text, a style or a scene to be like")
        return self


class Scene(Message):
    """One vehicle at one moment of a recording."""

    id: str
    source: str
    split: str
    location: str
    scenario_type: str
    label: str = Field(description="conservative, normal or aggressive")
    description: str
    style: StyleValues = Field(description="What could be measured, -1 to 1.")
    simulated: bool


class SceneFound(Message):
    """One scene that was found."""

    scene: Scene
    score: float = Field(description="Mean of the similarities asked for; 1 is the same.")
    similarities: dict[str, float] = Field(description="One by one: text, style, like.")


class ScenesFound(Message):
    """Scenes, nearest first."""

    collection: Literal["scenes"] = "scenes"
    scenes: list[SceneFound]


class StyleAsked(Message):
    """A style to drive in: numbers, a preset, or a person's driving preferences."""

    name: Id
    preset: Literal["conservative", "normal", "aggressive"] | None = None
    style: StyleValues | None = Field(
        default=None, description="-1 to 1 by names from `style_dimensions`; the rest is left open."
    )
    steering: Steering | None = Field(
        default=None, description="What the plan should be like, over and above the style."
    )

    @model_validator(mode="after")
    def _at_most_one(self) -> "StyleAsked":
        if self.preset is not None and self.style is not None:
            raise ValueError("a style has either a preset or numbers; with neither it is left open")
        return self


class PlanRequest(Message):
    """In which scene to plan, and in which styles."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "scene": "grid 00001 of seed 0:1:10",
                    "styles": [
                        {"name": "gentle", "preset": "conservative"},
                        {"name": "mine", "style": {"speed": 0.6, "time_gap": -0.4}},
                    ],
                    "closed_loop": False,
                }
            ]
        }
    )

    scene: Id
    styles: list[StyleAsked] = Field(min_length=1, max_length=8)
    closed_loop: bool = Field(
        default=False, description="Also drive on, planning anew every half second."
    )
    ride_s: float = Field(
        default=4.0, ge=1.0, le=8.0, description="How long a closed-loop ride lasts."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1)


class Trajectory(Message):
    """Poses at equal distances in time, in the scene's view: metres, the ego at the origin."""

    step_s: float
    start_s: float = Field(description="Time of the first pose, from now.")
    x_m: list[float]
    y_m: list[float]
    heading_rad: list[float]
    speed_mps: list[float]


class AgentTrack(Message):
    """A road user over a ride; null where it is not there."""

    kind: str
    length_m: float
    width_m: float
    x_m: list[float | None]
    y_m: list[float | None]
    heading_rad: list[float | None]


class Ride(Message):
    """What became of a style in closed loop."""

    ego: Trajectory
    agents: list[AgentTrack]
    sub_scores: dict[str, float]


class StylePlanned(Message):
    """What is planned in one style."""

    name: str
    style: StyleValues = Field(description="What was asked of the planner; the rest was open.")
    plan: Trajectory
    sub_scores: dict[str, float] = Field(description="PDM score and its parts, of this plan.")
    ride: Ride | None
    steered: Steered | None = Field(
        default=None, description="What this plan reached, driven for four seconds."
    )


class PlanAnswer(Message):
    """Plans, in the order of the styles asked for."""

    scene: str
    planner: str
    styles: list[StylePlanned]


class MapLine(Message):
    """A line of the map."""

    kind: str
    x_m: list[float]
    y_m: list[float]


class Box(Message):
    """A road user at present."""

    kind: str
    length_m: float
    width_m: float
    x_m: float
    y_m: float
    heading_rad: float


class SceneView(Message):
    """A scene from above: metres, the ego at the origin and looking along x."""

    scene: Scene
    lines: list[MapLine]
    agents: list[Box]
    ego: Box
    ego_past: Trajectory
    ego_future: Trajectory = Field(description="What the driver of the log did.")


class ReviewText(Message):
    """One review to read."""

    id: Annotated[int, Field(ge=0, le=2**53)] | None = Field(
        default=None, description="Named by the evidence. Default: its place in the list."
    )
    text: LongText
    rating: float | None = Field(default=None, ge=1, le=5, description="Stars.")


class ReadRequest(Message):
    """What to read preferences in: reviews, or a scene."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "reviews": [
                        {
                            "text": "Light enough to carry all day. The strap hurts my shoulder.",
                            "rating": 4,
                        }
                    ]
                }
            ]
        }
    )

    reviews: list[ReviewText] | None = Field(default=None, min_length=1, max_length=100)
    scene: Id | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "ReadRequest":
        if (self.reviews is None) == (self.scene is None):
            raise ValueError("preferences are read either in reviews or in a scene")
        return self


class Quote(Message):
    """Where a preference was read."""

    source: int = Field(description="Id of the review, or number of the sample.")
    start: int
    end: int
    quote: str = Field(description="The characters from `start` to `end`.")


class ReadPreference(Message):
    """One preference that was read."""

    text: str
    polarity: Polarity
    aspect: str
    strength: float
    confidence: float
    evidence: list[Quote]


class Conditioning(Message):
    """What a generator is conditioned on."""

    encoder: str
    dimensions: list[str] | None = Field(description="Names, where the dimensions have some.")
    values: list[float]
    mask: list[bool]


class PreferencesAnswer(Message):
    """Preferences, strongest first, and the vector they condition on."""

    extractor: str
    extractor_version: str
    preferences: list[ReadPreference]
    conditioning: Conditioning


class NewItem(Message):
    """An item to add, or to change if its id is known."""

    id: Id
    title: Text
    brand: Id | None = None
    categories: list[Id] = Field(default=[], max_length=20)
    price_cents: int | None = Field(default=None, ge=0, le=10**9)
    description: LongText | None = None


class ItemsToAdd(Message):
    """Items to add or change."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "id": "town-item-900001",
                            "title": "Norvik Featherlight Trail Backpack",
                            "brand": "Norvik",
                            "categories": ["Outdoor", "Backpacks"],
                            "price_cents": 8900,
                        }
                    ]
                }
            ]
        }
    )

    items: list[NewItem] = Field(min_length=1, max_length=1000)


class AddedItem(Message):
    """What became of one item."""

    id: str
    status: Literal["added", "changed", "refused"]
    semantic_id: list[int] | None
    reason: str | None = Field(default=None, description="Why it was refused.")


class ItemsAdded(Message):
    """What became of the items; all that are not refused are on disk and can be found."""

    items: list[AddedItem]


class ItemsPage(Message):
    """A page of the catalogue."""

    total: int
    items: list[Item]


class UserPage(Message):
    """A page of users."""

    total: int
    users: list[str]


class ScenesPage(Message):
    """A page of scenes."""

    total: int
    scenes: list[Scene]


class HistoryItem(Message):
    """One meeting of a user with an item."""

    item: Item
    position: int
    rating: float | None
    review_id: int
    review: str | None = Field(description="Title and body of the review, as evidence counts it.")


class UserView(Message):
    """A user: history, oldest first, and the preferences read in it, strongest first."""

    id: str
    history: list[HistoryItem]
    preferences: list[ReadPreference]
