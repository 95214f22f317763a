"""Preferences that are inferred from people whose histories are alike."""

from dataclasses import replace

import pytest
import torch

from recsys.alike_histories import AlikeHistories
from recsys.batch import HistoryBatch
from recsys.collate import Padded, RowPreferences, prefix_batch

# Two kinds of items, which share a large part of their vectors; item 6 has no text.
VECTORS = torch.nn.functional.normalize(
    torch.tensor(
        [[9.0, 1, 0.1], [9, 1, -0.1], [9, 1, 0.2], [9, -1, 0.1], [9, -1, 0], [9, -1, 0.3],
         [0, 0, 0]]
    ), dim=1,
)  # fmt: skip


def rows(histories: list[list[int]], texts: list[list[int]]) -> HistoryBatch:
    """Histories whose people prefer some texts; a negative one is to be avoided."""
    steps, most = max(map(len, histories)), max(map(len, texts))
    past = Padded(
        torch.tensor([row + [0] * (steps - len(row)) for row in histories]).numpy(),
        torch.tensor([[n < len(row) for n in range(steps)] for row in histories]).numpy(),
    )
    said = torch.tensor([row + [0] * (most - len(row)) for row in texts])
    there = torch.tensor([[n < len(row) for n in range(most)] for row in texts])
    known = RowPreferences(said.abs().numpy(), there.numpy(), (said < 0).numpy())
    target = torch.zeros(len(histories), dtype=torch.long).numpy()
    return prefix_batch(torch.arange(len(histories)).numpy(), past, target, known)


# Persons 0 and 2 meet the first kind and like text 1; 1 and 3 the second and avoid text 2.
PEOPLE = rows([[0, 1], [3, 4], [2], [5, 5, 4]], [[1], [-2], [1, 3], [-2]])
USERS = torch.arange(4)
ALIKE = AlikeHistories.of(PEOPLE, USERS, VECTORS)


def told(batch: HistoryBatch, users: list[int], alike: AlikeHistories = ALIKE) -> list[list[int]]:
    """What is inferred, text by text; a negative one is to be avoided."""
    found = alike.told(batch, torch.tensor(users))
    signs = torch.where(found.preference_avoid, -1, 1) * found.preference_text_ids
    return [signs[row, 0][found.preference_mask[row, 0]].tolist() for row in range(len(found))]


def test_people_of_a_kind_are_told_what_the_other_of_their_kind_prefers():
    assert told(PEOPLE, [0, 1, 2, 3]) == [[1, 3], [-2], [1], [-2]]
    place, there = ALIKE.nearest(PEOPLE, USERS)
    assert place.tolist() == [2, 3, 0, 1]
    assert there.all()


def test_nobody_is_told_what_they_said_even_where_they_are_most_alike():
    """A stranger with the history of person 0 is told what person 0 said; 0 is not."""
    one = PEOPLE.rows(torch.tensor([0, 0]))
    assert told(one, [9, 0]) == [[1], [1, 3]]
    alone = AlikeHistories.of(PEOPLE.rows(slice(0, 1)), USERS[:1], VECTORS)
    assert told(one, [9, 0], alone) == [[1], []]


def test_what_all_items_have_in_common_likens_nobody():
    """As they are, all cosines are above 0.9, and the mean of many beats one of the own kind."""
    met = VECTORS[:6]
    assert (met @ met.T).min() > 0.9
    mixed = rows([[0, 3, 1, 4], [2]], [[5], [7]])
    alike = AlikeHistories.of(mixed, torch.arange(2), VECTORS)
    assert told(rows([[0, 1, 2]], [[0]]), [9], alike) == [[7]]


def test_a_history_without_texts_infers_nothing():
    assert told(rows([[6], [6, 0]], [[4], [4]]), [8, 9]) == [[], [1]]


def test_who_prefers_nothing_is_not_asked():
    silent = replace(PEOPLE, preference_mask=PEOPLE.preference_mask.clone())
    silent.preference_mask[2] = False
    alike = AlikeHistories.of(silent, USERS, VECTORS)
    assert told(PEOPLE, [0, 1, 2, 3], alike) == [[-2], [-2], [1], [-2]]
    place, _ = alike.nearest(PEOPLE, USERS)
    assert 2 not in alike.user_ids[place].tolist()
    nobody = replace(PEOPLE, preference_mask=torch.zeros_like(PEOPLE.preference_mask))
    assert told(PEOPLE, [0, 1, 2, 3], AlikeHistories.of(nobody, USERS, VECTORS)) == [[]] * 4


def test_a_batch_is_told_like_its_rows_and_the_order_of_people_is_nothing():
    whole = told(PEOPLE, [0, 1, 2, 3])
    for row in range(4):
        assert told(PEOPLE.rows(torch.tensor([row])), [row]) == [whole[row]]
    order = torch.tensor([3, 1, 0, 2])
    again = AlikeHistories.of(PEOPLE.rows(order), USERS[order], VECTORS)
    assert told(PEOPLE, [0, 1, 2, 3], again) == whole


def test_the_history_and_the_target_stay_what_they_were():
    found = ALIKE.told(PEOPLE, USERS)
    for name in ("history_item_ids", "history_mask", "target_item_ids", "row_ids"):
        assert torch.equal(getattr(found, name), getattr(PEOPLE, name))
    assert not found.preference_text_ids[~found.preference_mask].any()


@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_is_that_of_the_slow_way(seed):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(12, 5, generator=generator)
    vectors[3] = 0
    lists = [
        torch.randint(0, 12, (int(n),), generator=generator).tolist()
        for n in torch.randint(1, 5, (9,), generator=generator)
    ]
    people = rows(lists, [[n + 1] for n in range(9)])
    users = torch.tensor([0, 0, 1, 2, 3, 3, 3, 4, 5])
    place, _ = AlikeHistories.of(people, users, vectors).nearest(people, users)
    known = [n for n in range(12) if n != 3]
    centre = vectors[known].mean(0)

    def vector(items: list[int]) -> torch.Tensor:
        total = torch.zeros(5)
        for item in items:
            if item != 3:
                total += (vectors[item] - centre) / (vectors[item] - centre).norm()
        return total / total.norm().clamp_min(1e-12)

    for row in range(9):
        cosines = {
            other: float(vector(lists[row]) @ vector(lists[other]))
            for other in range(9)
            if users[other] != users[row]
        }
        assert cosines[int(place[row])] == pytest.approx(max(cosines.values()), abs=1e-5)
