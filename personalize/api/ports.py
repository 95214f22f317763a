"""What the server asks of the rest of the house: two halves, and files it may open.

The server knows neither items nor roads. A half is named in the configuration by the `class_path`
of a `HalfSource`, which says what to open; `open` reads it and gives the half that answers. All
questions and answers are messages (`personalize.api.messages`), so a call from Python and a
request over HTTP are the same question.

A half is called from one thread only, except `open`, which may run beside a half that is serving.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from data_prep.errors import InputError
from personalize.api.messages import (
    AddedItem,
    Item,
    ItemQuery,
    ItemsFound,
    ItemsPage,
    NewItem,
    PlanAnswer,
    PlanRequest,
    PreferencesAnswer,
    ReadRequest,
    SceneQuery,
    ScenesFound,
    ScenesPage,
    SceneView,
    UserPage,
    UserView,
)

if TYPE_CHECKING:
    from personalize.api.files import ServedFiles  # it reads tables, which takes a library


class RequestRefused(InputError):  # noqa: N818  (an answer to one request, not a failure of ours)
    """One request cannot be answered; the sentence is for its sender.

    Attributes:
        param: The field of the request that is at fault, where one is.
        status: Status of the HTTP answer: 400, or 404 for something that does not exist.
    """

    def __init__(self, message: str, *, param: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.param = param
        self.status = status


Answer = TypeVar("Answer")
Answers = list[Answer | RequestRefused]
"""One answer per question, in their order; a refused one does not touch the others."""


class Half(ABC):
    """One half of the house, ready to answer.

    Laws, held by the tests of either half (`tests/recsys/test_serving.py`,
    `tests/driving/test_serving_scenes.py`): questions of one call do not influence each other; the
    same question has the same answer; what does not exist is refused by name.
    """

    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """What is served, as plain JSON values: the model, the artifacts' content hashes, sizes."""

    @abstractmethod
    def self_query(self) -> None:
        """Ask itself one question of each kind.

        Raises:
            InputError: If it cannot answer.
        """

    def catch_up(self) -> None:  # noqa: B027  (nothing to do where nothing can be added)
        """Take over what was added on disk since `open`, before this half begins to serve."""


class ItemsHalf(Half):
    """Recommendations."""

    @abstractmethod
    def retrieve(self, queries: Sequence[ItemQuery]) -> Answers[ItemsFound]:
        """The best items for every query."""

    @abstractmethod
    def read(self, request: ReadRequest) -> PreferencesAnswer:
        """The preferences in reviews, and the vector they condition on."""

    @abstractmethod
    def add(self, items: Sequence[NewItem]) -> Answers[AddedItem]:
        """Add or change items; they are found at once, and after a restart.

        What is answered is on disk. An item that is refused leaves the others as they are.
        """

    @abstractmethod
    def items(self, query: str, *, start: int, count: int) -> ItemsPage:
        """Items whose id, title, brand or category has these words; all where there are none."""

    @abstractmethod
    def item(self, item: str) -> Item:
        """One item.

        Raises:
            RequestRefused: If there is none of this id.
        """

    @abstractmethod
    def users(self, query: str, *, start: int, count: int) -> UserPage:
        """Users whose id has this text in it; all where it is empty."""

    @abstractmethod
    def user(self, user: str) -> UserView:
        """A user's history and what was read in it.

        Raises:
            RequestRefused: If there is none of this id.
        """


class ScenesHalf(Half):
    """Driving."""

    @abstractmethod
    def retrieve(self, queries: Sequence[SceneQuery]) -> Answers[ScenesFound]:
        """The scenes nearest to every query."""

    @abstractmethod
    def plan(self, requests: Sequence[PlanRequest]) -> Answers[PlanAnswer]:
        """Trajectories in a scene, one per style asked for, with sub-scores."""

    @abstractmethod
    def read(self, request: ReadRequest) -> PreferencesAnswer:
        """The preferences a driver shows in a scene, and the style vector."""

    @abstractmethod
    def scenes(self, query: str, *, start: int, count: int) -> ScenesPage:
        """Scenes whose description has these words; all where there are none."""

    @abstractmethod
    def scene(self, scene: str) -> SceneView:
        """What a scene looks like from above.

        Raises:
            RequestRefused: If there is none of this id.
        """


OpenHalf = TypeVar("OpenHalf", bound=Half)


class HalfSource(ABC, Generic[OpenHalf]):
    """SLOT: which artifacts a half is served from. Building one opens nothing."""

    @abstractmethod
    def open(self, files: "ServedFiles") -> OpenHalf:
        """Read the artifacts and get ready.

        Raises:
            NotServedError: If an artifact is not there at all; the server then does without the
                half and says so.
            InputError: If one is damaged or does not fit; the server then does not take it.
        """


class ItemsSource(HalfSource[ItemsHalf]):
    """SLOT: where recommendations are served from."""


class ScenesSource(HalfSource[ScenesHalf]):
    """SLOT: where driving is served from."""
