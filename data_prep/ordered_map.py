"""A function applied to many things by several threads, its results in the order of the things."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from data_prep.errors import InputError

Thing = TypeVar("Thing")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Thing], Result], things: Iterator[Thing], *, workers: int, ahead: int = 3
) -> Generator[Result, None, None]:
    """The results one by one, in the order of the things, whatever the number of threads.

    It pays where the function spends its time outside Python's lock. How far it reads ahead does
    not depend on the number of threads, so that what a consumer sees does not either. An
    `InputError` of `things` is raised after the results of all that came before it.

    Args:
        function: Must not change anything shared.
        things: Read by the calling thread.
        workers: Threads, at least 1.
        ahead: Things that may be worked on or wait while one result is used.
    """
    waiting: deque[Future[Result]] = deque()
    failure: InputError | None = None
    with ThreadPoolExecutor(workers, thread_name_prefix="ordered_map") as pool:
        try:
            while True:
                try:
                    waiting.append(pool.submit(function, next(things)))
                except StopIteration:
                    break
                except InputError as error:
                    failure = error
                    break
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
    if failure is not None:
        raise failure
