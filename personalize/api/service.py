"""What the paths of the API call: questions to the generation that is current, in batches."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from data_prep.errors import InputError
from personalize.api.errors import ApiError, later
from personalize.api.keys import ApiKeys
from personalize.api.limits import Limits
from personalize.api.messages import (
    AddedItem,
    ItemQuery,
    ItemsFound,
    ItemsToAdd,
    PlanAnswer,
    PlanRequest,
    SceneQuery,
    ScenesFound,
)
from personalize.api.micro_batches import BatchFacts, MicroBatches, Operation
from personalize.api.monitor import LOGGER, Monitor, log
from personalize.api.ports import Answers, ItemsHalf, RequestRefused, ScenesHalf
from personalize.api.served import Current, Generation, Missing

Question = TypeVar("Question")
Reply = TypeVar("Reply")
_READY_WITHIN_S = 10.0
_PLANS_AT_ONCE = 8
_DISK_AGAIN_S = 60


@dataclass(frozen=True)
class Call:
    """One call of a half that cannot share its work with others.

    Attributes:
        run: Gives the reply.
    """

    run: Callable[[], Any]


class Operations:
    """What one generation can be asked, batch by batch.

    Questions to two generations are never in one batch, so no answer mixes them.
    """

    def __init__(self, generation: Generation, limits: Limits) -> None:
        self.generation = generation
        self.embed = Operation("embed", generation.text.embed, most=limits.batch_texts)
        most = limits.batch_requests
        self.retrieve_items = Operation("retrieve_items", self._retrieve_items, most=most)
        self.retrieve_scenes: Operation[SceneQuery, ScenesFound] = Operation(
            "retrieve_scenes", self._retrieve_scenes, most=most
        )
        self.plan = Operation("plan", self._plan, most=_PLANS_AT_ONCE)
        self.call = Operation("call", _calls, most=most)

    def _retrieve_items(self, asked: Sequence[ItemQuery]) -> Answers[ItemsFound]:
        return self.items.retrieve(asked)

    def _retrieve_scenes(self, asked: Sequence[SceneQuery]) -> Answers[ScenesFound]:
        return self.scenes.retrieve(asked)

    def _plan(self, asked: Sequence[PlanRequest]) -> Answers[PlanAnswer]:
        return self.scenes.plan(asked)

    @property
    def items(self) -> ItemsHalf:
        """Recommendations.

        Raises:
            ApiError: If they are not served.
        """
        return _there(self.generation.items, "Recommendations are")

    @property
    def scenes(self) -> ScenesHalf:
        """Driving.

        Raises:
            ApiError: If it is not served.
        """
        return _there(self.generation.scenes, "Driving is")


class Service:
    """The queue, the keys, the metrics, and the generation that is current.

    Args:
        current: What answers.
        keys: Who may ask.
        limits: How much.
        begin: Called once in the thread that computes, before its first batch.
        local_only: Answer to no other name than this machine's own, and to no other site's page.
    """

    def __init__(
        self,
        current: Current,
        *,
        keys: ApiKeys,
        limits: Limits,
        begin: Callable[[], None] = lambda: None,
        local_only: bool = False,
    ) -> None:
        self.current = current
        self.local_only = local_only
        self.keys = keys
        self.limits = limits
        self.monitor = Monitor()
        self.monitor.generation.set(current.generation.number)
        self.batches = MicroBatches(
            waiting=limits.waiting_requests,
            patience_s=limits.request_s,
            watch=self._watch,
            begin=begin,
        )
        self.monitor.waiting.set_function(lambda: len(self.batches))
        self.operations = Operations(current.generation, limits)
        self.closing = False
        self._failing: set[str] = set()  # operations whose latest batch failed by our own fault
        self._add = Operation("add_items", self._add_all, most=1)
        self._swap = Operation("swap", self._swap_in, most=1)

    async def ask(
        self,
        operation: Operation[Question, Reply],
        question: Question,
        *,
        weight: int = 1,
    ) -> Reply:
        """The reply to one question, as an answer or an `ApiError`."""
        try:
            return await self.batches.ask(operation, question, weight=weight)
        except RequestRefused as refusal:
            code = "not_found" if refusal.status == 404 else "invalid_value"
            raise ApiError(refusal.status, str(refusal), code, refusal.param) from refusal
        except InputError as error:  # such as a vector database that is down
            LOGGER.error("does not answer", exc_info=error, extra={"facts": {}})
            raise later(
                "What is served does not answer; the log of the server says where.",
                "not_answering",
                status=503,
                retry_after_s=5,
            ) from error

    async def call(self, run: Callable[[Operations], Reply]) -> Reply:
        """What a half replies to a call that shares no work with others."""
        operations = self.operations
        return await self.ask(operations.call, Call(lambda: run(operations)))

    async def add(self, items: ItemsToAdd) -> list[AddedItem]:
        """Add items to whatever generation is current when it is their turn."""
        return await self.ask(self._add, items)

    async def reload(self) -> int:
        """Load what is on disk now and let it answer; the number of the new generation.

        Raises:
            ApiError: If it cannot be served; the present generation goes on.
        """
        try:
            loaded = await asyncio.to_thread(self.current.load)
            await self.batches.ask(self._swap, loaded)
        except (InputError, OSError) as error:
            self.monitor.reload("refused")
            log("reload refused", reason=str(error))
            raise ApiError(409, str(error), "not_loaded") from error
        self.monitor.reload("done")
        log("reloaded", generation=loaded.number)
        return loaded.number

    async def check_ready(self) -> None:
        """Return if requests can be answered.

        After a batch that failed by our own fault, everything is asked one question anew. A
        batch that computes for longer than any request may take is taken to hang.

        Raises:
            ApiError: If the server is closing, or what it serves does not answer.
        """
        if self.closing:
            raise ApiError(503, "The server is closing.", "closing")
        if self.batches.computing_s > self.limits.request_s:
            raise ApiError(503, "A computation does not end.", "not_ready")
        if not self._failing:
            return
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                await self.call(lambda operations: operations.generation.self_query())
        except Exception as error:  # whatever it is, nothing answers
            raise ApiError(503, "What is served does not answer.", "not_ready") from error
        self._failing.clear()

    def _watch(self, facts: BatchFacts) -> None:
        (self._failing.add if facts.failed else self._failing.discard)(facts.operation)
        self.monitor.batch(facts)

    def _add_all(self, questions: Sequence[ItemsToAdd]) -> list[list[AddedItem]]:
        return [
            [
                AddedItem(id=item.id, status="refused", semantic_id=None, reason=str(reply))
                if isinstance(reply, RequestRefused)
                else reply
                for item, reply in zip(question.items, self._kept(question), strict=True)
            ]
            for question in questions
        ]

    def _kept(self, asked: ItemsToAdd) -> Answers[AddedItem]:
        try:
            return self.operations.items.add(asked.items)
        except OSError as error:
            LOGGER.error("items not kept", exc_info=error, extra={"facts": {}})
            raise later(
                f"The items could not be written: {error.strerror}; none was added.",
                "not_kept",
                status=503,
                retry_after_s=_DISK_AGAIN_S,
            ) from error
        except RequestRefused:
            raise
        except InputError as error:
            raise ApiError(409, str(error), "not_kept") from error

    def _swap_in(self, questions: Sequence[Generation]) -> list:
        for loaded in questions:
            try:
                self.current.swap(loaded)
            except InputError as error:
                return [RequestRefused(str(error), status=409)]
            self.operations = Operations(loaded, self.limits)
            self.monitor.generation.set(loaded.number)
        return [None] * len(questions)


async def gathered(questions: Sequence[Awaitable[Reply]]) -> list[Reply]:
    """All replies; where one question fails, the others are given up."""
    tasks = [asyncio.ensure_future(question) for question in questions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _there(half: Any, what: str) -> Any:  # noqa: ANN401  (a half, or why there is none)
    if isinstance(half, Missing):
        raise ApiError(404, f"{what} not served here: {half.reason}", "not_served")
    return half


def _calls(calls: Sequence[Call]) -> list:
    """Every call's reply; what fails is its own sender's alone."""
    replies: list = []
    for call in calls:
        try:
            replies.append(call.run())
        except Exception as error:  # noqa: BLE001  (it is raised again to its sender)
            replies.append(error)
    return replies
