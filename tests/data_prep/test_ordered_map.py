"""Results come in the order of the things; errors wait for what came before them."""

import threading
import time
from collections.abc import Iterator

import pytest

from data_prep.errors import InputError
from data_prep.ordered_map import ordered_map


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("ahead", [0, 1, 7])
def test_slow_things_do_not_lose_their_place(workers: int, ahead: int) -> None:
    def late(number: int) -> int:
        time.sleep(0.002 * (5 - number % 5))
        return 10 * number

    found = list(ordered_map(late, iter(range(12)), workers=workers, ahead=ahead))
    assert found == [10 * number for number in range(12)]


def test_no_more_is_read_than_may_wait() -> None:
    read: list[int] = []

    def things() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    results = ordered_map(lambda number: number, things(), workers=4, ahead=3)
    assert next(results) == 0
    assert len(read) == 4
    results.close()
    assert len(read) == 4
    assert not [thread for thread in threading.enumerate() if "ordered_map" in thread.name]


def test_what_came_before_an_error_is_handed_out_first() -> None:
    def things() -> Iterator[int]:
        yield from range(3)
        raise InputError("cut off")

    found: list[int] = []
    with pytest.raises(InputError, match="cut off"):
        found.extend(ordered_map(lambda number: number, things(), workers=2))
    results = ordered_map(lambda number: number, things(), workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]


def test_an_error_of_the_function_is_raised_in_its_turn() -> None:
    results = ordered_map(lambda number: 6 // number, iter([3, 0, 2]), workers=2)
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)
