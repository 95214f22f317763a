"""Two branches that judge a style become one label, and a flag where a person should look."""

from dataclasses import dataclass

from data_prep.scenes.style_dimensions import StyleLabel


@dataclass(frozen=True)
class Fused:
    """A label, and whether the two that made it disagree."""

    label: StyleLabel
    needs_check: bool


def fuse(heuristic: StyleLabel, reader: StyleLabel | None) -> Fused:
    """Aggressive if either says so, conservative only if both do, otherwise normal.

    So no aggressive window is missed and a conservative one is certain. Without a reader the
    heuristic stands alone.

    Source:
        Hao et al., 2025, StyleDrive, arXiv:2506.23982: the fusion of rules and language model.

    Example:
        >>> fuse("conservative", "normal")
        Fused(label='normal', needs_check=True)
    """
    if reader is None or reader == heuristic:
        return Fused(heuristic, needs_check=False)
    if "aggressive" in (heuristic, reader):
        return Fused("aggressive", needs_check=True)
    return Fused("normal", needs_check=True)
