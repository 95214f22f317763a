"""A half in closed form: 100 contexts of four kinds, twelve responses, known rewards, a table."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_prep.artifact import create_artifact
from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.policy import Policy
from personalize.preference_optimization.tabular_policy import NumberedContexts, TabularPolicy
from personalize.preference_optimization.tunable import (
    TEST,
    TRAINING,
    VALIDATION,
    Evaluation,
    Judged,
    Tunable,
    TunableSource,
)

KINDS, CHOICES = 4, 12
SPLITS = {TRAINING: (0.0, 0.6), VALIDATION: (0.6, 0.8), TEST: (0.8, 1.0)}


class ToyTunable(Tunable[NumberedContexts]):
    """Context `c` is of kind `c % 4`; context `contexts + c` is the same under the opposed wish.

    The table has a row per kind and wish, so what is learnt in training contexts holds in others.
    `match` is the inner product of the wish with a response's attributes, `quality` a property of
    the response alone; every fourth response fails the gate in every second kind.
    """

    reward_names = ("match", "quality")

    def __init__(self, *, contexts: int = 100, drawn: int = 6, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.count, self.drawn = contexts, drawn
        self.attributes = torch.randn(CHOICES, 2, generator=generator)
        self.quality = torch.rand(CHOICES, generator=generator)
        angles = 2 * torch.pi * torch.arange(KINDS) / KINDS + 0.4
        wishes = torch.stack([angles.cos(), angles.sin()], -1)
        self.wishes = torch.cat([wishes, -wishes])
        fails = (torch.arange(CHOICES) % 4 == 3) & (torch.arange(2 * KINDS) % 2 == 1)[:, None]
        self.gates = ~fails
        self.match = self.wishes @ self.attributes.T
        likely = (2 * self.match + self.quality).masked_fill(fails, -torch.inf)
        uniform = torch.rand(2 * contexts, CHOICES, generator=generator).clamp(1e-9, 1 - 1e-7)
        gumbel = -(-uniform.log()).log()
        self.logged = (likely[self.kinds(torch.arange(2 * contexts))] + gumbel).argmax(-1)
        begin = 0.3 * torch.randn(2 * KINDS, CHOICES, generator=generator)
        self.policy = TabularPolicy(begin).eval()
        self.facts: Mapping[str, Any] = {"generator": "table", "contexts": contexts}
        self.inputs: Mapping[str, str] = {"toy": f"{contexts} {drawn} {seed}"}

    def kinds(self, contexts: Tensor) -> Tensor:
        """Row of the table that a context reads: its kind, and its wish."""
        return contexts % self.count % KINDS + KINDS * (contexts >= self.count)

    def contexts(self, split):
        first, last = (round(share * self.count) for share in SPLITS[split])
        return np.arange(first, last)

    def batch(self, contexts):
        return NumberedContexts(self.kinds(contexts))

    def targets(self, contexts):
        return self.logged[contexts][:, None]

    def candidates(self, contexts, policy, *, seed):
        device = next(policy.parameters()).device
        answers = policy.sample(self.batch(contexts).to(device), self.drawn, seed=seed).responses
        parts = [
            self._of_one(int(context), answers[row].cpu(), policy)
            for row, context in enumerate(contexts)
        ]
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return Candidates(responses=torch.arange(CHOICES), names=self.reward_names, **joined)

    def _of_one(self, context: int, drawn: Tensor, policy: Policy) -> dict[str, Tensor]:
        """What was logged and drawn in one context, and the same under the opposed wish."""
        target = self.logged[context]
        responses = torch.cat([target[None], drawn]).unique()
        there = torch.tensor([context, (context + self.count) % (2 * self.count)])
        both = responses.expand(2, -1)
        judged = self.judge(there, both)
        device = next(policy.parameters()).device
        with torch.no_grad():
            log_prob = policy.log_prob(self.batch(there).to(device), both.to(device)).sum(-1)
        apart = (self.attributes[responses] - self.attributes[target]).norm(dim=-1)
        return {
            "context": there.repeat_interleave(len(responses)),
            "origin": torch.full((2 * len(responses),), context),
            "response": both.flatten(),
            "target": torch.cat([responses == target, torch.zeros(len(responses)).bool()]),
            "gate": judged.gate.flatten(),
            "reward": judged.reward.flatten(0, 1),
            "log_prob": log_prob.cpu().flatten(),
            "distance": apart.repeat(2),
            "group": torch.full((2 * len(responses),), context % self.count % 2),
        }

    def judge(self, contexts, responses):
        kinds, device = self.kinds(contexts), responses.device
        match = self.match[kinds].to(device).gather(1, responses)
        quality = self.quality.to(device)[responses]
        return Judged(
            torch.stack([match, quality], -1), self.gates[kinds].to(device).gather(1, responses)
        )

    def features(self, contexts, responses):
        known = torch.cat([self.attributes, self.quality[:, None]], -1).to(responses.device)
        return self.wishes[self.kinds(contexts)].to(responses.device), known[responses]

    def evaluate(self, policy, split, *, seed=0):
        contexts = torch.as_tensor(self.contexts(split))
        device = next(policy.parameters()).device
        drawn = policy.sample(self.batch(contexts).to(device), 1, seed=seed, beam=True)
        judged = self.judge(contexts, drawn.responses.cpu())
        values = {
            "match": judged.reward[:, 0, 0].double().numpy(),
            "hit": (drawn.responses.cpu() == self.targets(contexts))[:, 0].double().numpy(),
            "gate failures": (~judged.gate[:, 0]).double().numpy(),
        }
        groups = [f"kind {int(kind)}" for kind in self.kinds(contexts)]
        return Evaluation(values, "match", groups, frozenset({"gate failures"}))

    def write(self, policy, out, *, command, options):
        with create_artifact(
            out, kind="toy_policy", command=command, configuration=options, inputs=self.inputs
        ) as writer:
            weights = {name: value.cpu().numpy() for name, value in policy.state_dict().items()}
            writer.write_arrays("weights", weights)


class ToySource(TunableSource):
    """Names the toy in a configuration.

    Args:
        contexts: Contexts of all splits together.
        drawn: Responses drawn in each as candidates.
        seed: Of its numbers.
    """

    def __init__(self, *, contexts: int = 100, drawn: int = 6, seed: int = 0) -> None:
        self.contexts, self.drawn, self.seed = contexts, drawn, seed

    def open(self) -> ToyTunable:
        return ToyTunable(contexts=self.contexts, drawn=self.drawn, seed=self.seed)
