"""What `personalize diagnose` is configured with; it opens nothing."""

from personalize.preference_optimization.candidates import PairBuilder
from personalize.preference_optimization.target_pairs import TargetAgainstOthers
from personalize.preference_optimization.tunable import TunableSource


class Diagnosis:
    """What `personalize diagnose` is configured with.

    Args:
        half: The generator before tuning, with its contexts and judges.
        after: Run folders of `personalize tune`, or checkpoints of them.
        before: A run or checkpoint to begin from instead of the half's own generator.
        builder: Makes held-out comparisons; by default what was logged against what was found.
        proxy: Name of the reward that was optimised, for the reward-hacking curve.
        meant: Name of the reward that was meant.
        beta: Of the DPO loss that accuracies are read against.
        judges_share: Share of judges taken to prefer the winner of a pair, for the idealised
            accuracy; the paper's simulated judges have 0.75.
        contexts: Held-out contexts, at most.
        probes: How many of them are drawn answers for, at every checkpoint.
        answers: Answers drawn for each.
        rows_at_once: Comparisons or contexts in one go.
        resamples: Resamples of every interval.
        seed: Seed of everything that is drawn.

    Raises:
        ValueError: If a number is out of range, no run is given, or one of `proxy` and `meant` is
            named without the other.
    """

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        *,
        half: TunableSource,
        after: list[str],
        before: str = "",
        builder: PairBuilder | None = None,
        proxy: str = "",
        meant: str = "",
        beta: float = 0.1,
        judges_share: float = 0.75,
        contexts: int = 512,
        probes: int = 128,
        answers: int = 8,
        rows_at_once: int = 64,
        resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        self.half, self.after, self.before = half, after, before
        self.builder: PairBuilder = TargetAgainstOthers() if builder is None else builder
        self.proxy, self.meant = proxy, meant
        self.beta, self.judges_share = beta, judges_share
        self.contexts, self.probes, self.answers = contexts, probes, answers
        self.rows_at_once, self.resamples, self.seed = rows_at_once, resamples, seed
        least = {
            "contexts": (contexts, 4),
            "probes": (probes, 4),
            "answers": (answers, 1),
            "rows_at_once": (rows_at_once, 1),
            "resamples": (resamples, 100),
            "seed": (seed, 0),
        }
        for name, (value, bound) in least.items():
            if value < bound:
                raise ValueError(f"{name} must be at least {bound}, got {value}.")
        if not beta > 0:
            raise ValueError(f"beta must be positive, got {beta:g}.")
        if not 0 < judges_share < 1:
            raise ValueError(f"judges_share must lie between 0 and 1, got {judges_share:g}.")
        if not after:
            raise ValueError("after must name at least one run, got none.")
        if bool(proxy) != bool(meant):
            raise ValueError("proxy and meant must be named together.")
