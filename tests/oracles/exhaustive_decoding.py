"""Scores of all items, one item and one level at a time: slow and obvious."""

import math

import torch


def item_scores(decoder, batch, item_codes, *, allowed=None, scoring="raw"):
    """Sum of log-probabilities of each item's codes for each row.

    `allowed` is a set of items per row; `renormalized` spreads the probability over the codes
    that lead to one of them. Items that are not allowed score minus infinity.
    """
    rows = len(batch)
    items, levels = item_codes.shape
    scores = torch.full((rows, items), -math.inf)
    for item in range(items):
        state = decoder.prepare(batch)
        previous = torch.zeros(rows, 1, dtype=torch.long)
        total = torch.zeros(rows)
        for level in range(levels):
            logits = decoder.step(state, level, previous, torch.zeros(rows, 1, dtype=torch.long))
            logits = logits[:, 0].float()
            for row in range(rows):
                open_items = range(items) if allowed is None else allowed[row]
                if scoring == "renormalized":
                    prefix = item_codes[item, :level].tolist()
                    codes = {
                        int(item_codes[other, level])
                        for other in open_items
                        if item_codes[other, :level].tolist() == prefix
                    }
                    if item not in open_items:
                        continue
                    kept = logits[row, sorted(codes)]
                else:
                    kept = logits[row]
                total[row] += logits[row, item_codes[item, level]] - kept.logsumexp(0)
            previous = item_codes[item, level].expand(rows, 1)
        for row in range(rows):
            if allowed is None or item in allowed[row]:
                scores[row, item] = total[row]
    return scores
