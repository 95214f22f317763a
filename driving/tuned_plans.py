"""The planner as preference optimisation asks it: moments of logs under styles, and their judge."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from data_prep.artifact import read_artifact
from data_prep.scenes.style_dimensions import AGGRESSIVE_SIGNS
from driving.anchor_table import AnchorTable
from driving.asked_styles import AskedStyles
from driving.critic_reader import style_features
from driving.load import AVERAGED, PLANNER, LoadedPlanner
from driving.metrics.style_metrics import kendall_tau
from driving.moments import Moments
from driving.plan_judge import (
    REWARDS,
    ROWS_AT_ONCE,
    DrivenPlans,
    PlanJudge,
    StyleRuler,
    columns_shown,
    drive,
    spread_within,
)
from driving.plan_kinds import KINDS, speed_kind
from driving.plan_responses import PlanPolicy, PlanResponses
from driving.planner.anchor_policy import AnchorPolicy
from driving.planner.going_on import going_on
from driving.planner.guided_steps import no_style
from driving.planner.plan_contexts import PlanContexts
from driving.planner.planner import StyleCondition
from personalize.checkpoint import KIND
from personalize.evaluation.context_suite import INFERRED, NONE
from personalize.negative_copy import write_copy
from personalize.preference_optimization.candidates import Candidates
from personalize.preference_optimization.policy import Policy, frozen_copy
from personalize.preference_optimization.tunable import Evaluation, Judged, Tunable

MAIN = "safe_style_match"
LOWER_IS_BETTER = frozenset({"collision", "off_road", "ade_m"})
"""Measures of an evaluation of which less is better."""
_INSTEAD = {INFERRED: 1, NONE: 2}


class TunablePlans(Tunable[PlanContexts]):
    """A trained diffusion planner with moments of logs, each under every style that is listed.

    The number of a context is its moment times the number of styles, plus its style. A swapped
    context is the same moment under another style. All of them are there twice again, under what is
    inferred of the style and without any (`under_condition`). Responses are driven by tracker and
    bicycle in the world as it went on; nobody reacts, but for who drives behind (`calm_follower`).

    What was logged was driven in the driver's own style, so it is no example of how to drive in
    another one. The target of a context is the teacher's drive in that very style where a teacher
    drove it, which is so in training moments, and else the log.

    Attributes:
        policy: See the class it implements.
        reward_names: Likewise.
        facts: Likewise.
        inputs: Likewise.
        judge_of: What judges.
        category_names: What plans do with their speed; see `speed_kind`.
        annotator_names: The styles, which are the groups of candidates.
    """

    category_names = KINDS

    def __init__(
        self,
        loaded: LoadedPlanner,
        policy: PlanPolicy,
        moments: Moments,
        styles: AskedStyles,
        targets: Float[Tensor, "context time 3"],
        inputs: Mapping[str, str],
        *,
        swaps: bool = False,
    ) -> None:
        """Drive every moment once without a wish, to know what is usual there.

        Args:
            loaded: Where the planner comes from.
            policy: Of its planner.
            moments: The moments.
            styles: What is asked for, and what may stand in for it.
            targets: What to imitate in every context.
            inputs: Content hash of every artifact that was read.
            swaps: Whether candidates come under the other styles too.
        """
        every = torch.arange(len(moments.splits))  # copied, so that gradients may pass
        self._moments, self._scene = moments, moments.scene.rows(every)
        self._loaded, self._styles, self._targets = loaded, dict(styles.told), targets
        self._inferred, self.annotator_names = styles.inferred, tuple(styles.told)
        self.policy = policy.eval()
        self._frozen = frozen_copy(policy)
        self._responses, self._swaps = PlanResponses(self._frozen), swaps
        self.judge_of = PlanJudge(moments, self._ruler())
        shape = len(targets), len(self._frozen.planner.anchors), len(REWARDS)
        self._table = AnchorTable(self._judged_anchors, shape)
        self.reward_names = REWARDS
        self.inputs = dict(inputs)
        self.facts = {
            "planner": type(loaded.planner).__name__,
            "policy": type(policy).__name__,
            "styles": list(self._styles),
            "simulated": moments.simulated,
            "moments": {name: moments.splits.count(name) for name in sorted(set(moments.splits))},
            "main": MAIN,
        }

    def contexts(self, split: str) -> Int[np.ndarray, " context"]:
        """Every moment of a split under every style."""
        rows = np.flatnonzero(np.array(self._moments.splits) == split)
        return (rows[:, None] * len(self._styles) + np.arange(len(self._styles))).reshape(-1)

    def batch(self, contexts: Int[Tensor, " row"]) -> PlanContexts:
        """Scenes and styles."""
        rows = self.moment(contexts)
        return PlanContexts(self._scene.rows(rows), self.style(contexts))

    def under_condition(
        self, contexts: Int[Tensor, " row"], condition: str
    ) -> Int[Tensor, " row"] | None:
        """The same moments with no style asked for (`none`), or with what is `inferred` of it.

        None where nothing is known of how drivers drove before.
        """
        if condition not in _INSTEAD or (condition == INFERRED and not self._inferred):
            return None
        return self._plain(contexts) + _INSTEAD[condition] * len(self._targets)

    def _plain(self, contexts: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
        """The same contexts with the very style that is asked for."""
        return contexts.cpu() % len(self._targets)

    def moment(self, contexts: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
        """The moment of every context."""
        return self._plain(contexts) // len(self._styles)

    def samples(self, contexts: Int[Tensor, " row"]) -> Int[np.ndarray, " row"]:
        """The sample of the logs that every context is a moment of."""
        return self._moments.world.sample_ids[self.moment(contexts)].numpy()

    def style(self, contexts: Int[Tensor, " row"]) -> StyleCondition:
        """What is asked for in every context."""
        rows, kind = self.moment(contexts), contexts.cpu() // len(self._targets)
        number = kind * len(self._styles) + self._plain(contexts) % len(self._styles)
        told = list(self._styles.values())
        none = no_style(told[0])
        inferred = [self._inferred.get(name, none) for name in self._styles]
        every = [*told, *inferred, *[none] * len(told)]
        values = torch.stack([one.values for one in every])[number, rows]
        return StyleCondition(values, torch.stack([one.mask for one in every])[number, rows])

    @torch.no_grad()
    def category(
        self, contexts: Int[Tensor, " row"], responses: Tensor
    ) -> Int[Tensor, "row particle"]:
        """What responses do with the present speed, among `category_names`."""
        present_mps = self._scene.ego_history[:, -1, 3]
        given = responses.detach().cpu()
        if not isinstance(self._frozen, AnchorPolicy):
            rows = self.moment(contexts)
            poses = self._responses.poses(self.batch(contexts[:0]), given)
            return speed_kind(poses, present_mps[rows])
        every, place = contexts.cpu().unique(return_inverse=True)
        kinds = [
            speed_kind(self._responses.answers(self.batch(part)), present_mps[self.moment(part)])
            for part in every.split(ROWS_AT_ONCE)
        ]
        return torch.cat(kinds)[place].gather(1, given)

    def targets(self, contexts: Int[Tensor, " row"]) -> Tensor:
        """What to imitate; see `PlanResponses.of_poses`."""
        return self._responses.of_poses(self.batch(contexts), self._targets[self._plain(contexts)])

    def candidates(
        self, contexts: Int[Tensor, " row"], policy: Policy[PlanContexts], *, seed: int
    ) -> Candidates:
        """Every anchor's answer under the policy and the target, by context.

        The distance is that to the target, as a mean over its steps in metres. The group is the
        style that was asked for. With swaps, the same responses stand under every other style.

        Args:
            contexts: Numbers.
            policy: Whose answers are candidates; on any device.
            seed: Looked at by nobody: every anchor answers.
        """
        contexts = contexts.cpu()
        drawn = self._asked(policy, contexts, seed=seed)
        responses = torch.cat([drawn, self.targets(contexts)], 1)
        rows, count = responses.shape[:2]
        shifts = range(len(self._styles)) if self._swaps else range(1)
        base = self.moment(contexts) * len(self._styles)
        asked = torch.stack([base + (contexts - base + n) % len(self._styles) for n in shifts], 1)
        number = torch.arange(rows * count).view(rows, count)
        told = asked.flatten()
        again = responses.repeat_interleave(len(shifts), 0)
        judged = self.judge(told, again)
        places = self._responses.poses(self.batch(contexts), responses)[..., :2]
        distance = (places - places[:, -1:]).norm(dim=-1).mean(-1)
        spread = (len(told), count)
        again_of = contexts.repeat_interleave(len(shifts))
        last = torch.arange(count) == count - 1
        return Candidates(
            context=told[:, None].expand(spread).flatten(),
            origin=again_of[:, None].expand(spread).flatten(),
            response=number.repeat_interleave(len(shifts), 0).flatten(),
            responses=responses.flatten(0, 1),
            target=(last & (told == again_of)[:, None]).flatten(),
            gate=judged.gate.flatten(),
            reward=judged.reward.flatten(0, 1),
            names=REWARDS,
            log_prob=self._log_prob(policy, told, again).flatten(),
            distance=distance.repeat_interleave(len(shifts), 0).flatten(),
            group=(told % len(self._styles))[:, None].expand(spread).flatten(),
        )

    def judge(self, contexts: Int[Tensor, " row"], responses: Tensor) -> Judged:
        """See `PlanJudge`; a candidate of the untuned planner is driven once."""
        contexts, given = contexts.cpu(), responses.detach().cpu()
        known = bool((contexts < len(self._targets)).all())
        if known and isinstance(self._frozen, AnchorPolicy):
            found = self._table(contexts, given)
        else:
            poses = self._responses.poses(self.batch(contexts), given)
            found = self.judge_of(self.moment(contexts), self.style(contexts), poses)
        return Judged(found.reward.to(responses.device), found.gate.to(responses.device))

    def driven(
        self, contexts: Int[Tensor, " row"], poses: Float[Tensor, "row candidate time 3"]
    ) -> DrivenPlans:
        """Any plans, driven in the moments of contexts."""
        return drive(self._moments, self.moment(contexts), poses)

    @torch.no_grad()
    def features(
        self, contexts: Int[Tensor, " row"], responses: Tensor
    ) -> tuple[Float[Tensor, "row context_width"], Float[Tensor, "row particle response_width"]]:
        """The untuned encoder's vector of the scene beside the style; changes along the way."""
        context = self.batch(contexts)
        planner = self._frozen.planner
        told = [planner.scene_vectors(context.scene), style_features(context.style)]
        poses = self._responses.poses(context, responses.detach().cpu())
        changes = planner.normalised(going_on(context.scene).changes(poses)).flatten(2)
        return torch.cat(told, -1).to(responses.device), changes.to(responses.device)

    @torch.no_grad()
    def evaluate(self, policy: Policy[PlanContexts], split: str, *, seed: int = 0) -> Evaluation:
        """The planner's own plans, driven: safety, quality, style, distance to the log.

        `style_tau` is Kendall's tau of a moment's levels of style with the mean speeds driven,
        told beside the first style alone.
        """
        contexts = torch.from_numpy(self.contexts(split))
        rows = self.moment(contexts)
        plans = self._plans(policy, contexts, seed)
        driven = self.driven(contexts, plans[:, None])
        style = self.style(contexts)
        match = self.judge_of.ruler.match(driven.measured, rows, style)
        values = {name: driven.parts[name] for name in ("pdms", "progress", "comfort")}
        values |= {
            "collision": 1 - driven.parts["no_collision"],
            "off_road": 1 - driven.parts["drivable_area"],
            "time_to_collision": driven.parts["time_to_collision"],
            "style_match": match,
            MAIN: match * driven.gate,
            "ade_m": -driven.parts["human_likeness"],
        }
        found = {name: value[:, 0].double().numpy() for name, value in values.items()}
        speeds = driven.measured.raw[:, 0, 0].double().numpy()
        return Evaluation(
            values=found | {"style_tau": self._tau(style, speeds)},
            main=MAIN,
            groups=[self._moments.groups[row] for row in rows.tolist()],
            lower_is_better=LOWER_IS_BETTER,
        )

    def write(
        self, policy: Policy[PlanContexts], out: Path, *, command: str, options: Mapping[str, Any]
    ) -> None:
        """Write the planner: a checkpoint that `load_planner` reads.

        Raises:
            InputError: If the folder exists or cannot be written.
        """
        planner: Any = policy.planner
        write_copy(
            read_artifact(self._loaded.folder, kind=KIND),
            planner.state_dict(),
            out,
            command=command,
            prefixes=(AVERAGED, PLANNER),
            options=options,
            section="tuned",
        )

    @torch.no_grad()
    def _ruler(self) -> StyleRuler:
        """What is usual in every moment, and how far its candidates lie apart."""
        planner, moments = self._frozen.planner, self._moments
        rows = torch.arange(len(moments.splits))
        training = torch.tensor([name == "train" for name in moments.splits])
        none = no_style(next(iter(self._styles.values())))
        plans = planner.plan(self._scene, none, seed=0)
        usual, known = columns_shown(drive(moments, rows, plans.best[:, None]).measured)
        of = drive(moments, rows[training], plans.poses[training])
        return StyleRuler(usual[:, 0], known[:, 0], spread_within(of))

    def _judged_anchors(self, contexts: Int[Tensor, " row"]) -> Judged:
        poses = self._responses.answers(self.batch(contexts))
        return self.judge_of(self.moment(contexts), self.style(contexts), poses)

    def _asked(
        self, policy: Policy[PlanContexts], contexts: Int[Tensor, " row"], *, seed: int
    ) -> Tensor:
        device = next(policy.parameters()).device
        count = len(self._frozen.planner.anchors)
        context = self.batch(contexts).to(device)
        return policy.sample(context, count, seed=seed, beam=True).responses.cpu()

    @torch.no_grad()
    def _log_prob(
        self, policy: Policy[PlanContexts], contexts: Int[Tensor, " row"], responses: Tensor
    ) -> Float[Tensor, "row particle"]:
        device = next(policy.parameters()).device
        context = self.batch(contexts).to(device)
        return policy.log_prob(context, responses.to(device)).sum(-1).cpu()

    def _plans(
        self, policy: Policy[PlanContexts], contexts: Int[Tensor, " row"], seed: int
    ) -> Float[Tensor, "row time 3"]:
        planner: Any = policy.planner
        context = self.batch(contexts).to(planner.anchors.device)
        return planner.plan(context.scene, context.style, seed=seed).best.cpu()

    def _tau(
        self, style: StyleCondition, speeds: Float[np.ndarray, " row"]
    ) -> Float[np.ndarray, " row"]:
        """By moment, and NaN beside all styles but the first."""
        count = len(self._styles)
        found = np.full(len(speeds), np.nan)
        if count > 1 and len(speeds):
            signs = style.values.new_tensor(AGGRESSIVE_SIGNS)
            briskness = (style.values * style.mask * signs).sum(-1)
            levels = briskness.double().numpy().reshape(-1, count)
            tau, known = kendall_tau(levels, speeds.reshape(-1, count))
            found[::count] = np.where(known, tau, np.nan)
        return found
