"""The queue before the computing thread: what waits together is answered together, in bounds."""

import asyncio
import threading
import time

import pytest

from personalize.api.errors import ApiError
from personalize.api.micro_batches import BatchFacts, MicroBatches, Operation


class Recorder:
    """An operation that doubles numbers, and remembers how it was called."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.pause_s = pause_s

    def run(self, numbers):
        self.batches.append(list(numbers))
        self.threads.add(threading.get_ident())
        time.sleep(self.pause_s)
        return [2 * number for number in numbers]


def batches(**settings) -> MicroBatches:
    return MicroBatches(**{"waiting": 100, "patience_s": 10.0} | settings)


def test_what_waits_is_taken_together_up_to_the_limit_in_order_by_one_thread():
    recorder = Recorder(pause_s=0.02)
    operation = Operation("double", recorder.run, most=3)

    async def ask_all() -> list[int]:
        queue = batches()
        found = await asyncio.gather(*(queue.ask(operation, number) for number in range(8)))
        await queue.close()
        return found

    assert asyncio.run(ask_all()) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert recorder.batches == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert len(recorder.threads) == 1
    assert threading.get_ident() not in recorder.threads


def test_weights_bound_a_batch_and_one_that_is_too_heavy_goes_alone():
    recorder = Recorder()
    operation = Operation("double", recorder.run, most=4)

    async def ask_all() -> None:
        queue = batches()
        await asyncio.gather(
            *(queue.ask(operation, n, weight=w) for n, w in enumerate([9, 2, 2, 1]))
        )
        await queue.close()

    asyncio.run(ask_all())
    assert recorder.batches == [[0], [1, 2], [3]]


def test_operations_are_not_mixed_and_the_one_that_waits_longest_goes_first():
    one, other = Recorder(pause_s=0.01), Recorder(pause_s=0.01)
    first, second = Operation("one", one.run, most=8), Operation("other", other.run, most=8)
    order: list[str] = []

    async def ask_all() -> None:
        queue = batches(watch=lambda facts: order.append(facts.operation))
        asked = [(first, 0), (second, 1), (second, 2), (first, 3)]
        await asyncio.gather(*(queue.ask(operation, n) for operation, n in asked))
        await queue.close()

    asyncio.run(ask_all())
    assert one.batches == [[0, 3]]
    assert other.batches == [[1, 2]]
    assert order == ["one", "other"]


def test_a_full_queue_answers_429_with_a_time_to_come_back_and_takes_again_later():
    recorder = Recorder(pause_s=0.05)
    operation = Operation("double", recorder.run, most=1)

    async def ask_all() -> None:
        queue = batches(waiting=2)
        running = [asyncio.create_task(queue.ask(operation, n)) for n in range(2)]
        await asyncio.sleep(0.01)  # the first is computing, the second waits
        running.append(asyncio.create_task(queue.ask(operation, 2)))
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as full:
            await queue.ask(operation, 3)
        assert full.value.status == 429
        assert full.value.code == "queue_full"
        assert int(full.value.headers["Retry-After"]) >= 1
        await asyncio.gather(*running)
        assert await queue.ask(operation, 4) == 8
        await queue.close()

    asyncio.run(ask_all())
    assert recorder.batches == [[0], [1], [2], [4]]


def test_a_sender_that_goes_away_is_not_computed_and_frees_its_place():
    recorder = Recorder(pause_s=0.05)
    operation = Operation("double", recorder.run, most=1)

    async def ask_all() -> None:
        queue = batches()
        first = asyncio.create_task(queue.ask(operation, 0))
        await asyncio.sleep(0.01)
        gone = asyncio.create_task(queue.ask(operation, 1))
        await asyncio.sleep(0)
        assert len(queue) == 1
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert len(queue) == 0
        assert await queue.ask(operation, 2) == 4
        assert await first == 0
        await queue.close()

    asyncio.run(ask_all())
    assert recorder.batches == [[0], [2]]


def test_a_sender_that_goes_away_while_it_is_computed_costs_nobody_else_an_answer():
    recorder = Recorder(pause_s=0.05)
    operation = Operation("double", recorder.run, most=3)

    async def ask_all() -> None:
        queue = batches(patience_s=1.0)
        asked = [asyncio.create_task(queue.ask(operation, n)) for n in range(3)]
        await asyncio.sleep(0.02)  # all three are computing
        asked[0].cancel()
        assert await asyncio.gather(*asked[1:]) == [2, 4]
        await queue.close()

    asyncio.run(ask_all())
    assert recorder.batches == [[0, 1, 2]]


def test_what_takes_too_long_is_told_so_and_dropped():
    recorder = Recorder(pause_s=0.2)
    operation = Operation("double", recorder.run, most=1)

    async def ask_all() -> None:
        queue = batches(patience_s=0.05)
        first = asyncio.create_task(queue.ask(operation, 0))
        await asyncio.sleep(0.01)
        with pytest.raises(ApiError) as late:
            await queue.ask(operation, 1)
        assert (late.value.status, late.value.code) == (503, "timeout")
        with pytest.raises(ApiError):
            await first
        await asyncio.sleep(0.25)
        await queue.close()

    asyncio.run(ask_all())
    assert recorder.batches == [[0]]


def test_an_exception_among_the_replies_is_its_senders_alone():
    facts: list[BatchFacts] = []

    def run(numbers):
        return [ValueError(f"{n} is odd") if n % 2 else n for n in numbers]

    async def ask_all() -> list:
        queue = batches(watch=facts.append)
        operation = Operation("even", run, most=8)
        found = await asyncio.gather(
            *(queue.ask(operation, n) for n in range(3)), return_exceptions=True
        )
        await queue.close()
        return found

    found = asyncio.run(ask_all())
    assert [found[0], found[2]] == [0, 2]
    assert str(found[1]) == "1 is odd"
    assert [(one.questions, one.failed) for one in facts] == [(3, True)]


def test_an_operation_that_fails_fails_all_and_the_next_one_is_answered():
    def run(numbers):
        if 0 in numbers:
            raise RuntimeError("kaboom")
        return numbers

    async def ask_all() -> None:
        queue = batches()
        operation = Operation("touchy", run, most=2)
        found = await asyncio.gather(
            *(queue.ask(operation, n) for n in range(3)), return_exceptions=True
        )
        assert [str(one) for one in found] == ["kaboom", "kaboom", "2"]
        await queue.close()

    asyncio.run(ask_all())


@pytest.mark.parametrize("wrong", [[], [1, 2, 3]])
def test_a_wrong_number_of_replies_fails_those_who_asked_and_the_queue_goes_on(wrong):
    replies = [wrong, [4, 5]]
    facts: list[BatchFacts] = []

    async def ask_all() -> list:
        queue = batches(watch=facts.append)
        operation = Operation("odd", lambda numbers: replies.pop(0), most=2)
        found = await asyncio.gather(
            *(queue.ask(operation, n) for n in range(4)), return_exceptions=True
        )
        await queue.close()
        return found

    found = asyncio.run(ask_all())
    assert [str(one) for one in found[:2]] == [f"odd gave {len(wrong)} of 2 replies."] * 2
    assert found[2:] == [4, 5]
    assert [one.failed for one in facts] == [True, False]


def test_an_end_of_iteration_fails_its_sender_and_the_queue_goes_on():
    async def ask_all() -> list:
        queue = batches()
        operation = Operation("next", lambda numbers: [next(iter(numbers[1:]))], most=1)
        found = await asyncio.gather(
            *(queue.ask(operation, n) for n in range(2)), return_exceptions=True
        )
        await queue.close()
        return found

    assert [type(one) for one in asyncio.run(ask_all())] == [RuntimeError] * 2


def test_a_worker_that_died_is_replaced():
    def watch(facts: BatchFacts) -> None:
        if facts.questions == 1:
            raise KeyError("who watches the watch")

    async def ask_all() -> list[int]:
        queue = batches(watch=watch, patience_s=0.2)
        operation = Operation("same", lambda numbers: numbers, most=2)
        assert await queue.ask(operation, 1) == 1  # it was answered before the watcher failed
        assert queue.computing_s == 0
        found = await asyncio.gather(*(queue.ask(operation, n) for n in range(2)))
        assert queue.computing_s == 0
        await queue.close()
        return found

    assert asyncio.run(ask_all()) == [0, 1]


def test_how_long_a_batch_computes_is_known_while_it_does():
    began, release = threading.Event(), threading.Event()

    def run(numbers):
        began.set()
        release.wait(20)
        return numbers

    async def ask() -> None:
        queue = batches()
        assert queue.computing_s == 0
        asked = asyncio.create_task(queue.ask(Operation("held", run), 1))
        await asyncio.to_thread(began.wait, 20)
        first = queue.computing_s
        assert 0 < first < queue.computing_s
        release.set()
        await asked
        assert queue.computing_s == 0
        await queue.close()

    asyncio.run(ask())


def test_an_api_error_is_no_failure_of_ours():
    facts: list[BatchFacts] = []

    def run(numbers):
        raise ApiError(404, "Nothing here.", "not_served")

    async def ask_all() -> None:
        queue = batches(watch=facts.append)
        with pytest.raises(ApiError):
            await queue.ask(Operation("none", run), 1)
        await queue.close()

    asyncio.run(ask_all())
    assert [one.failed for one in facts] == [False]


def test_closing_answers_what_was_accepted():
    recorder = Recorder(pause_s=0.02)
    operation = Operation("double", recorder.run, most=1)

    async def ask_all() -> list[int]:
        queue = batches()
        running = [asyncio.create_task(queue.ask(operation, n)) for n in range(4)]
        await asyncio.sleep(0)
        await queue.close()
        return await asyncio.gather(*running)

    assert asyncio.run(ask_all()) == [0, 2, 4, 6]
