"""A decoder whose logits stand in a table, and whose distribution can be written down."""

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys.batch import HistoryBatch
from recsys.semantic_id.trie import SemanticIdTrie


@dataclass
class TableState:
    """Codes every beam has chosen so far."""

    rows: int
    codes: list[Tensor]


class TableDecoder:
    """Logits of every level by the codes above: random, of a temperature, the same for each row."""

    def __init__(self, level_sizes: tuple[int, ...], *, seed: int = 0, scale: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tables = [
            scale * torch.randn(*level_sizes[: level + 1], generator=generator)
            for level in range(len(level_sizes))
        ]

    def prepare(self, batch: HistoryBatch) -> TableState:
        return TableState(len(batch), [])

    def step(self, state: TableState, level: int, codes: Tensor, parents: Tensor) -> Tensor:
        if level:
            state.codes = [chosen.gather(1, parents) for chosen in state.codes]
            state.codes.append(codes)
        table = self.tables[level]
        if not level:
            return table.expand(state.rows, 1, -1)
        return table[tuple(state.codes)]

    def log_probabilities(self, trie: SemanticIdTrie, item_codes: Tensor) -> Tensor:
        """Of every item, drawn code by code among the codes that lead to one: slow and obvious."""
        found = []
        for codes in item_codes.tolist():
            total = torch.zeros(())
            for level, code in enumerate(codes):
                prefix = codes[:level]
                there = [row for row in item_codes.tolist() if row[:level] == prefix]
                kept = sorted({row[level] for row in there})
                logits = self.tables[level][tuple(prefix)] if level else self.tables[0]
                total = total + logits[code] - logits[kept].logsumexp(0)
            found.append(total)
        return torch.stack(found)


def rows_without_history(count: int) -> HistoryBatch:
    """A batch whose rows have met one item and wish nothing."""
    nothing = torch.zeros(count, 1, 0)
    return HistoryBatch(
        row_ids=torch.arange(count),
        history_item_ids=torch.zeros(count, 1, dtype=torch.long),
        history_mask=torch.ones(count, 1, dtype=torch.bool),
        target_item_ids=torch.zeros(count, 1, dtype=torch.long),
        target_mask=torch.ones(count, 1, dtype=torch.bool),
        preference_text_ids=nothing.long(),
        preference_mask=nothing.bool(),
        preference_avoid=nothing.bool(),
    )
