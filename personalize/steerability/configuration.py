"""What `personalize steerability` is configured with; it opens nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from personalize.evaluation.steerable import SteerableSource
from personalize.evaluation.strength_tuning import variants
from personalize.steering.chain import Chain


@dataclass(frozen=True)
class NamedChain:
    """A chain that is evaluated.

    Attributes:
        chain: What steers; by default nothing does.
        tune: Values to try, by dotted name of a number of the chain, such as
            `lookahead.strength: [1, 3, 10]`. Every combination is tried on tuning contexts.
        spend: Dotted name of a count of the chain, such as `particles.count`, that is raised to a
            multiple of what it is until a context takes the `generator_calls` that all chains are
            compared at. Empty takes the chain as it is.
    """

    chain: Chain = field(default_factory=Chain)
    tune: dict[str, list[float]] = field(default_factory=dict)
    spend: str = ""


class Steerability:
    """What `personalize steerability` is configured with.

    Args:
        source: The trained generator to steer.
        chains: Chains to compare, by name. A neutral one shows what no steering is worth.
        contexts: Contexts that are reported.
        goals: Goals for each of them.
        tuning_contexts: Contexts that strengths are tuned on; none of them is reported.
        tuning_goals: Goals for each of those.
        seed_contexts: Contexts that may be drawn, chosen at random among those of a split: so many
            are generated for without steering.
        samples: Outputs generated for every goal with different seeds; their mean is measured.
        most_active: Most dimensions that a goal asks for.
        largest_quality_loss: Share of the unsteered main quality that steering may cost.
        generator_calls: Calls per context that chains with `spend` are brought to, and that the
            best chain may take; 0 leaves both open.
        rows_at_once: Rows that are generated in one go.
        resamples: Resamples of every interval.
        seed: Seed of everything that is drawn.

    Raises:
        ValueError: If a number is out of range, no chain is given, or a chain cannot be tuned as
            it says.
    """

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        *,
        source: SteerableSource,
        chains: dict[str, NamedChain],
        contexts: int = 64,
        goals: int = 32,
        tuning_contexts: int = 32,
        tuning_goals: int = 16,
        seed_contexts: int = 512,
        samples: int = 1,
        most_active: int = 3,
        largest_quality_loss: float = 0.1,
        generator_calls: float = 0.0,
        rows_at_once: int = 64,
        resamples: int = 2000,
        seed: int = 0,
    ) -> None:
        self.source, self.chains = source, chains
        self.contexts, self.goals = contexts, goals
        self.tuning_contexts, self.tuning_goals = tuning_contexts, tuning_goals
        self.seed_contexts, self.samples, self.most_active = seed_contexts, samples, most_active
        self.largest_quality_loss, self.generator_calls = largest_quality_loss, generator_calls
        self.rows_at_once, self.resamples, self.seed = rows_at_once, resamples, seed
        _check_range(
            {
                "contexts": (contexts, 2),
                "goals": (goals, 1),
                "tuning_contexts": (tuning_contexts, 2),
                "tuning_goals": (tuning_goals, 1),
                "seed_contexts": (seed_contexts, max(contexts, tuning_contexts)),
                "samples": (samples, 1),
                "most_active": (most_active, 1),
                "largest_quality_loss": (largest_quality_loss, 0),
                "generator_calls": (generator_calls, 0),
                "rows_at_once": (rows_at_once, 1),
                "resamples": (resamples, 100),
                "seed": (seed, 0),
            }
        )
        _check_chains(chains)


def _check_range(numbers: Mapping[str, tuple[float | int, int]]) -> None:
    for name, (value, least) in numbers.items():
        if not value >= least:
            raise ValueError(f"{name} must be at least {least:g}, got {value:g}.")


def _check_chains(chains: Mapping[str, NamedChain]) -> None:
    if not chains:
        raise ValueError("chains must name at least one chain, got none.")
    for name, named in chains.items():
        try:
            variants(named.chain, named.tune)
            if named.spend:
                variants(named.chain, {named.spend: [1.0]})
        except ValueError as error:
            raise ValueError(f"Chain {name}: {error}") from error
