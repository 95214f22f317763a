"""The prefix tree of all semantic IDs, as sorted arrays that a beam search gathers from."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn

DENSE_CELLS = 1 << 22  # a dense table of more cells than this costs more memory than it saves time


class SemanticIdTrie(nn.Module):
    """All prefixes of the catalogue's semantic IDs; nodes are numbered level by level.

    The nodes of a level are numbered in the lexicographic order of their prefixes. The children
    of node `n` are then the consecutive nodes `first_child[n]` to `first_child[n + 1] - 1` of the
    level below, so the number of a child is the number of its edge and no table of next states is
    needed: two arrays a level, about six bytes a node. A leaf is a row of the sorted catalogue.

    Every gather has a constant width, the widest branching of its level, and needs no host sync.
    Where the widest node uses at least half of a level's codes, a dense table of children by code
    takes the place of the gather; the answers are the same.

    The arrays move with the module between devices but are no part of its state: they are made
    anew from the catalogue.
    """

    def __init__(self, item_codes: Int[Tensor, "item level"], level_sizes: tuple[int, ...]) -> None:
        """Sort the codes and number the prefixes.

        Args:
            item_codes: Semantic ID of every item; no two items share one.
            level_sizes: Number of codes at each level.

        Raises:
            ValueError: If there is no item or level, a code lies outside its level, or two items
                share all codes.
        """
        super().__init__()
        codes = item_codes.cpu().numpy()
        _check_codes(codes, level_sizes)
        order = _lexicographic_order(codes, level_sizes)
        ordered = codes[order]
        self.level_sizes = tuple(level_sizes)
        self.item_count = len(codes)
        self.widths: tuple[int, ...] = ()
        self._dense: tuple[bool, ...] = ()
        starts = np.zeros(1, np.int64)  # row of the sorted catalogue where each node starts
        new = np.zeros(len(codes), np.bool_)
        new[0] = True
        for level, size in enumerate(level_sizes):
            new[1:] |= ordered[1:, level] != ordered[:-1, level]
            child_starts = np.flatnonzero(new)
            first_child = np.searchsorted(child_starts, np.append(starts, len(codes)))
            self._store_level(level, size, first_child, ordered[child_starts, level])
            starts = child_starts
        if len(starts) != len(codes):
            first = order[np.flatnonzero(~new)[0] - 1]
            second = order[np.flatnonzero(~new)[0]]
            raise ValueError(
                f"items {first} and {second} share the semantic ID {codes[first].tolist()}; "
                "add a collision digit."
            )
        leaf_of_item = np.empty(len(order), np.int32)
        leaf_of_item[order] = np.arange(len(order), dtype=np.int32)
        self._store("item_of_leaf", order.astype(np.int32))
        self._store("leaf_of_item", leaf_of_item)

    @property
    def level_count(self) -> int:
        """Number of levels."""
        return len(self.level_sizes)

    def node_count(self, level: int) -> int:
        """Number of prefixes of `level` codes; one at level 0, the root."""
        return self.first_child(level).shape[0] - 1 if level < self.level_count else self.item_count

    def first_child(self, level: int) -> Int[Tensor, " node_and_end"]:
        """First child of every node of a level, and one past the last child at the end."""
        return self.get_buffer(f"first_child_{level}")

    def code(self, level: int) -> Int[Tensor, " child"]:
        """The code on the edge into every node of the level below."""
        return self.get_buffer(f"code_{level}")

    def children_of(
        self, level: int, nodes: Int[Tensor, "*beam"]
    ) -> tuple[
        Int64[Tensor, "*beam child"], Int64[Tensor, "*beam child"], Bool[Tensor, "*beam child"]
    ]:
        """The children of nodes, padded to the widest branching of the level.

        Args:
            level: Level of the nodes; the codes of `level` lead to their children.
            nodes: Numbers of nodes at that level.

        Returns:
            Numbers of the children at the level below, their codes, and which of them exist. Where
            one does not exist, number and code are some valid ones.
        """
        if self._dense[level]:
            table = self.get_buffer(f"child_by_code_{level}")
            children = table[nodes].long()
            codes = torch.arange(table.shape[1], device=nodes.device).expand(children.shape)
            return children.clamp_min(0), codes, children >= 0
        first_child = self.first_child(level)
        start = first_child[nodes].unsqueeze(-1)
        end = first_child[nodes + 1].unsqueeze(-1)
        edges = start + torch.arange(self.widths[level], device=nodes.device, dtype=torch.int32)
        exists = edges < end
        edges = torch.minimum(edges, end - 1).long()
        return edges, self.code(level)[edges].long(), exists

    def expand(
        self, level: int, nodes: Int[Tensor, "*beam"], logits: Float[Tensor, "*beam code"]
    ) -> tuple[Float[Tensor, "*beam child"], Int64[Tensor, "*beam child"]]:
        """The logits of the children of nodes, `-inf` where there is no child, and the children.

        Args:
            level: Level of the nodes.
            nodes: Numbers of nodes at that level.
            logits: One per code of the level.

        Returns:
            Logits and numbers of the children; a number beside `-inf` is some valid one.
        """
        if self._dense[level]:
            children = self.get_buffer(f"child_by_code_{level}")[nodes]
            return logits.masked_fill(children < 0, -torch.inf), children.clamp_min(0).long()
        children, codes, exists = self.children_of(level, nodes)
        return logits.gather(-1, codes).masked_fill(~exists, -torch.inf), children

    def place_of_child(
        self, level: int, children: Int[Tensor, "*beam"], parents: Int[Tensor, "*beam"]
    ) -> Int64[Tensor, "*beam"]:
        """Where `expand` puts each child in the row of its parent."""
        if self._dense[level]:
            return self.code(level)[children].long()
        return (children - self.first_child(level)[parents]).long()

    def allowed_below(self, allowed_items: Bool[Tensor, " item"]) -> list[Int[Tensor, " node"]]:
        """For each level below the root, how many allowed items lie under every node.

        Args:
            allowed_items: Which items may be reached.
        """
        counts = allowed_items[self.item_of_leaf].int()
        below = [counts]
        for level in range(self.level_count - 1, 0, -1):
            total = nn.functional.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))
            counts = total[self.first_child(level)].diff()
            below.insert(0, counts)
        return below

    def leaves_below(self, level: int, nodes: Int[Tensor, "*beam"]) -> Int[Tensor, "*beam"]:
        """How many items lie under nodes of a level."""
        first, end = self.leaf_range(level, nodes)
        return end - first

    def leaf_range(
        self, level: int, nodes: Int[Tensor, "*beam"]
    ) -> tuple[Int[Tensor, "*beam"], Int[Tensor, "*beam"]]:
        """The first leaf under nodes of a level, and one past the last."""
        first, end = nodes, nodes + 1
        for below in range(level, self.level_count):
            first, end = self.first_child(below)[first], self.first_child(below)[end]
        return first, end

    def ancestors(self, items: Int[Tensor, "*row"]) -> list[Int[Tensor, "*row"]]:
        """For each level below the root, the node on the path to each item; the leaf last."""
        nodes = self.leaf_of_item[items]
        path = [nodes]
        for level in range(self.level_count - 1, 0, -1):
            nodes = torch.searchsorted(self.first_child(level), nodes, right=True, out_int32=True)
            nodes = nodes - 1
            path.insert(0, nodes)
        return path

    def _store_level(
        self, level: int, size: int, first_child: np.ndarray, codes: np.ndarray
    ) -> None:
        branching = np.diff(first_child)
        dense = 2 * int(branching.max()) >= size and len(branching) * size <= DENSE_CELLS
        self.widths += (size if dense else int(branching.max()),)
        self._dense += (dense,)
        self._store(f"first_child_{level}", first_child.astype(np.int32))
        self._store(f"code_{level}", codes.astype(np.int16 if size <= 1 << 15 else np.int32))
        if dense:
            table = np.full((len(branching), size), -1, np.int32)
            parents = np.repeat(np.arange(len(branching)), branching)
            table[parents, codes] = np.arange(len(codes), dtype=np.int32)
            self._store(f"child_by_code_{level}", table)

    def _store(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(values), persistent=False)

    item_of_leaf: Int[Tensor, " item"]
    leaf_of_item: Int[Tensor, " item"]


def _check_codes(codes: np.ndarray, level_sizes: tuple[int, ...]) -> None:
    if codes.shape[0] == 0 or codes.shape[1] == 0:
        raise ValueError(f"a trie needs items and levels, got codes of shape {codes.shape}.")
    if codes.shape[1] != len(level_sizes):
        raise ValueError(
            f"level_sizes must have one entry per level ({codes.shape[1]}), got {level_sizes}."
        )
    low, high = codes.min(axis=0), codes.max(axis=0)
    for level, size in enumerate(level_sizes):
        if low[level] < 0 or high[level] >= size:
            raise ValueError(
                f"codes of level {level} must lie in 0..{size - 1}, "
                f"got {low[level]} to {high[level]}."
            )


def _lexicographic_order(codes: np.ndarray, level_sizes: tuple[int, ...]) -> np.ndarray:
    """Rows in the order of their codes; one packed number per row where 63 bits hold it."""
    if np.prod([float(size) for size in level_sizes]) >= 2.0**63:
        return np.lexsort(codes.T[::-1])
    key = np.zeros(len(codes), np.int64)
    for level, size in enumerate(level_sizes):
        key *= size
        key += codes[:, level]
    return np.argsort(key, kind="stable")
