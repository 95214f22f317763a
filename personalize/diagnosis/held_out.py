"""Comparisons of held-out contexts, made once, and what policies score them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from data_prep.errors import InputError
from data_prep.progress import track
from personalize.diagnosis.configuration import Diagnosis
from personalize.evaluation.ranking_accuracy import PairScores
from personalize.preference_optimization.candidates import Candidates, joined_candidates
from personalize.preference_optimization.compared import policy_scores
from personalize.preference_optimization.compared_rows import ComparedRows
from personalize.preference_optimization.comparison_set import ComparisonSet
from personalize.preference_optimization.context_reversals import ContextReversals
from personalize.preference_optimization.policy import Policy
from personalize.preference_optimization.tunable import TEST, Tunable

Plain = tuple[float | int, ...]
NOISE_DRAWS = 4
"""Draws of noise that the scores of a policy with noise are averaged over."""


@dataclass(frozen=True)
class HeldOut:
    """What every policy is asked about.

    Attributes:
        half: Its contexts and judges.
        options: The configuration.
        contexts: Numbers of the held-out contexts.
        candidates: What the generator before tuning found in them.
        compared: Comparisons of these.
        reversals: Two comparisons after one another per reversal; none where no reward depends on
            the context.
        device: Where policies compute.
    """

    half: Tunable
    options: Diagnosis
    contexts: Int[Tensor, " context"]
    candidates: Candidates
    compared: ComparedRows
    reversals: ComparedRows
    device: torch.device

    @property
    def probes(self) -> Int[Tensor, " context"]:
        """The held-out contexts that answers are drawn for."""
        return some(self.contexts.numpy(), self.options.probes, self.options.seed + 1)

    @property
    def places(self) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
        """Comparison of every pair of the first and another, and the other's place in it."""
        others = self.compared.present[:, 1:].numpy()
        comparison, place = np.nonzero(others)
        return comparison, place + 1

    @property
    def origins(self) -> Int[np.ndarray, " pair"]:
        """Context that every pair was made from."""
        return self.candidates.origin[self.compared.rows[:, 0]].numpy()[self.places[0]]

    def rows(self) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
        """Candidate of every pair's winner and of its loser."""
        comparison, place = self.places
        every = self.compared.rows.numpy()
        return every[comparison, 0], every[comparison, place]

    def scores(
        self, policy: Policy, compared: ComparedRows, context: Int[Tensor, " row"] | None = None
    ) -> Float[np.ndarray, "comparison place"]:
        """Log-probability of every response of some comparisons, summed over steps.

        Args:
            policy: Asked on its device.
            compared: Comparisons of the candidates.
            context: Number of each candidate's context, where it is another than its own.
        """
        known = self.candidates
        there = known.context if context is None else context
        table = ComparisonSet.of(compared, there, known.response, known.responses)
        draws = NOISE_DRAWS if policy.draws_noise else 1
        found = []
        with torch.no_grad():
            for numbers in self.pieces(torch.arange(len(table))):
                batch = table.batch(numbers, self.half).to(self.device)
                total = torch.zeros(batch.present.shape, dtype=torch.float64)
                for draw in range(draws):
                    policy.reseed(self.options.seed + draw)  # the same noise for every policy
                    total += policy_scores(policy, batch).sum(-1).double().cpu()
                found.append(total / draws)
        return torch.cat(found).numpy()

    def pairs(
        self,
        after: Float[np.ndarray, "comparison place"],
        before: Float[np.ndarray, "comparison place"],
    ) -> PairScores:
        """Scores of comparisons as pairs of the first and each other."""
        comparison, place = self.places
        return PairScores(
            winner=after[comparison, 0],
            loser=after[comparison, place],
            reference_winner=before[comparison, 0],
            reference_loser=before[comparison, place],
        )

    def pieces(self, numbers: Tensor) -> Iterator[Tensor]:
        """Numbers, so many at a time."""
        return iter(numbers.split(self.options.rows_at_once))


def held_out(half: Tunable, options: Diagnosis, policy: Policy, device: torch.device) -> HeldOut:
    """Comparisons of held-out contexts, made of what the generator before tuning finds there.

    Args:
        half: Whose contexts.
        options: The configuration.
        policy: The generator before tuning, on the device.
        device: Where it is.

    Raises:
        InputError: If there are fewer than four contexts, or nothing is compared in them.
    """
    numbers = some(half.contexts(TEST), options.contexts, options.seed)
    if len(numbers) < 4:
        raise InputError(f"a diagnosis needs 4 held-out contexts, this half has {len(numbers)}.")
    parts = [
        half.candidates(chunk, policy, seed=options.seed)
        for chunk in track(numbers.split(options.rows_at_once), "Finding candidates")
    ]
    candidates = joined_candidates(parts)
    compared = options.builder(candidates, seed=options.seed)
    if not len(compared):
        raise InputError(
            f"{type(options.builder).__name__} decides no comparison in {len(numbers)} contexts; "
            "name another builder, or more contexts."
        )
    return HeldOut(
        half, options, numbers, candidates, compared, reversed_pairs(candidates, options.seed),
        device,
    )  # fmt: skip


def reversed_pairs(candidates: Candidates, seed: int) -> ComparedRows:
    """Reversals by each reward on its own; rewards that read no context have none."""
    found = [ContextReversals({name: 1.0})(candidates, seed=seed) for name in candidates.names]
    kept = [one for one in found if len(one)]
    if not kept:
        return ComparedRows.of(torch.zeros(0, 2, dtype=torch.long), "context_reversals")
    rows = torch.cat([one.rows for one in kept])
    return ComparedRows.of(rows, "context_reversals")


@dataclass(frozen=True)
class Answered:
    """What a policy answers to the probes.

    Attributes:
        responses: `[probe, answer, ...]`, on the CPU.
        reward: What each is worth.
        gate: Whether it passes every safety gate.
        kl: Estimate of the divergence from the policy before tuning, by probe: the mean over
            answers of the difference of log-probabilities. A single probe's may be negative.
    """

    responses: Tensor
    reward: Float[np.ndarray, "probe answer dimension"]
    gate: Bool[np.ndarray, "probe answer"]
    kl: Float[np.ndarray, " probe"]


def answered(found: HeldOut, policy: Policy, before: Policy) -> Answered:
    """Draws answers of a policy to the probes and judges them."""
    half, options = found.half, found.options
    parts: dict[str, list[Tensor]] = {}
    with torch.no_grad():
        for numbers in found.pieces(found.probes):
            batch = half.batch(numbers).to(found.device)
            drawn = policy.sample(batch, options.answers, seed=options.seed).responses
            judged = half.judge(numbers, drawn)
            ratios = []
            for one in (policy, before):
                one.reseed(options.seed)
                ratios.append(one.log_prob(batch, drawn).sum(-1).double())
            piece = {
                "responses": drawn,
                "reward": judged.reward.double(),
                "gate": judged.gate,
                "kl": (ratios[0] - ratios[1]).mean(1),
            }
            for name, value in piece.items():
                parts.setdefault(name, []).append(value.cpu())
    whole = {name: torch.cat(values) for name, values in parts.items()}
    return Answered(
        whole["responses"], whole["reward"].numpy(), whole["gate"].numpy(), whole["kl"].numpy()
    )


def likeliest(found: HeldOut, policy: Policy) -> list[list[Plain]]:
    """The likeliest answers of a policy to the probes, each as plain numbers."""
    answers = []
    with torch.no_grad():
        for numbers in found.pieces(found.probes):
            batch = found.half.batch(numbers).to(found.device)
            drawn = policy.sample(batch, found.options.answers, seed=found.options.seed, beam=True)
            answers += [[plain(one) for one in row] for row in drawn.responses.cpu()]
    return answers


def plain(response: Tensor) -> Plain:
    """A response as plain numbers, to tell whether two are the same."""
    return tuple(response.flatten().tolist())


def some(numbers: Int[np.ndarray, " context"], most: int, seed: int) -> Int[Tensor, " chosen"]:
    """At most so many of the numbers, drawn without replacement, in order."""
    if len(numbers) > most:
        numbers = np.sort(np.random.default_rng(seed).choice(numbers, most, replace=False))
    return torch.from_numpy(np.asarray(numbers, np.int64))
