"""Questions that wait together are answered together, by the one thread that computes."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from personalize.api.errors import ApiError, later
from personalize.api.ports import RequestRefused

Question = TypeVar("Question")
Reply = TypeVar("Reply")


@dataclass(frozen=True, eq=False)
class Operation(Generic[Question, Reply]):
    """Something that is computed for several questions at once.

    Attributes:
        name: For metrics and logs.
        run: One reply per question, in their order; an exception among them is raised to its
            sender alone.
        most: Weight that is taken together.
    """

    name: str
    run: Callable[[Sequence[Question]], Sequence[Reply | BaseException]]
    most: int = 1


@dataclass(frozen=True)
class BatchFacts:
    """What one batch took, for whoever watches.

    Attributes:
        operation: Its name.
        questions: How many were answered together.
        waited_s: How long the first of them waited.
        computed_s: How long the computation took.
        failed: It ended in an error that no question is to blame for.
    """

    operation: str
    questions: int
    waited_s: float
    computed_s: float
    failed: bool


@dataclass(eq=False)
class _Waiting:
    question: Any
    weight: int
    since_s: float
    future: asyncio.Future = field(repr=False)
    taken: bool = False


class MicroBatches:
    """A bounded queue before one computing thread.

    Whatever waits when the thread becomes free is taken, oldest operation first, up to the
    operation's `most`; nothing ever waits for company. A question whose sender has gone, or has
    waited too long, is dropped unanswered.

    Args:
        waiting: Questions that may wait.
        patience_s: Time after which a sender is told that it took too long.
        watch: Called with the facts of every batch.
        begin: Called once in the computing thread, before its first batch.
    """

    def __init__(
        self,
        *,
        waiting: int,
        patience_s: float,
        watch: Callable[[BatchFacts], None] = lambda facts: None,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self._most_waiting = waiting
        self._patience_s = patience_s
        self._watch = watch
        self._queues: dict[Operation, deque[_Waiting]] = {}
        self._length = 0
        self._computing_since_s: float | None = None
        self._filled = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compute", initializer=begin)
        self._worker: asyncio.Task | None = None

    def __len__(self) -> int:
        """Questions that wait."""
        return self._length

    @property
    def computing_s(self) -> float:
        """How long the present batch has been computing; 0 where there is none."""
        since_s = self._computing_since_s
        return 0.0 if since_s is None else time.perf_counter() - since_s

    async def ask(
        self, operation: Operation[Question, Reply], question: Question, *, weight: int = 1
    ) -> Reply:
        """The reply to one question.

        Raises:
            ApiError: If the queue is full (429) or it took too long (503); or whatever the
                operation answered to this question.
        """
        if self._length >= self._most_waiting:
            raise later(
                f"{self._length} questions are waiting already; ask again a little later.",
                "queue_full",
                status=429,
                retry_after_s=1,
            )
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        future = asyncio.get_running_loop().create_future()
        waiting = _Waiting(question, weight, time.perf_counter(), future)
        queue = self._queues.setdefault(operation, deque())
        queue.append(waiting)
        self._length += 1
        self._filled.set()
        try:
            async with asyncio.timeout(self._patience_s):
                return await future
        except TimeoutError:
            raise later(
                f"It took longer than {self._patience_s:g} s; ask for less, or again later.",
                "timeout",
                status=503,
                retry_after_s=5,
            ) from None
        finally:
            if not waiting.taken:  # its sender has gone, or waited too long
                queue.remove(waiting)
                self._length -= 1

    async def close(self) -> None:
        """Answer what waits, then let the thread go."""
        while self._length or self._computing_since_s is not None:
            await asyncio.sleep(0.01)
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._filled.wait()
            operation, taken = self._take()
            if operation is None:
                continue
            self._computing_since_s = started_s = time.perf_counter()
            replies, failure = await loop.run_in_executor(
                self._thread, _computed, operation, [waiting.question for waiting in taken]
            )
            self._computing_since_s = None
            for waiting, reply in zip(taken, replies, strict=True):
                _answer(waiting.future, reply)
            self._watch(
                BatchFacts(
                    operation=operation.name,
                    questions=len(taken),
                    waited_s=started_s - taken[0].since_s,
                    computed_s=time.perf_counter() - started_s,
                    failed=failure,
                )
            )

    def _take(self) -> tuple[Operation | None, list[_Waiting]]:
        """The operation whose question has waited longest, and what is taken of its queue."""
        self._queues = {operation: queue for operation, queue in self._queues.items() if queue}
        if not self._queues:
            self._filled.clear()
            return None, []
        operation = min(self._queues, key=lambda one: self._queues[one][0].since_s)
        queue, taken, weight = self._queues[operation], [], 0
        while queue and (not taken or weight + queue[0].weight <= operation.most):
            waiting = queue.popleft()
            waiting.taken = True
            taken.append(waiting)
            weight += waiting.weight
        self._length -= len(taken)
        return operation, taken


def _computed(operation: Operation, questions: list) -> tuple[Sequence, bool]:
    """The replies, and whether one of them is a failure that no question is to blame for.

    Where the operation as a whole fails, each question gets its error.
    """
    try:
        replies = operation.run(questions)
    except Exception as error:  # noqa: BLE001  (it is raised again to those who asked)
        replies = [error] * len(questions)
    if len(replies) != len(questions):
        wrong = RuntimeError(f"{operation.name} gave {len(replies)} of {len(questions)} replies.")
        replies = [wrong] * len(questions)
    replies = [_raisable(reply) for reply in replies]
    failures = [reply for reply in replies if isinstance(reply, BaseException)]
    return replies, any(not isinstance(one, (ApiError, RequestRefused)) for one in failures)


def _raisable(reply: object) -> object:
    """The reply; an end of iteration as an error that a future can carry."""
    if isinstance(reply, StopIteration):
        return RuntimeError("The computation ended an iteration that nobody was running.")
    return reply


def _answer(future: asyncio.Future, reply: object) -> None:
    if future.done():  # its sender has gone
        return
    if isinstance(reply, BaseException):
        future.set_exception(reply)
    else:
        future.set_result(reply)
