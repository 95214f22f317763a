"""The learned planner: anchors, noised a little and denoised in two steps, under a style."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from driving.planner.anchors import Anchors, fitted_anchors, signal_shares, straight_anchors
from driving.planner.batch import PlanningBatch, ScoredProposals, drawn_lesson
from driving.planner.diffusion_decoder import Decoded, DiffusionDecoder, SeenScene
from driving.planner.going_on import GoingOn, going_on
from driving.planner.learned import EncodesScenes, LearnedPlanner
from driving.planner.planner import PLAN_STEPS, PlannerInput, Plans, StyleCondition
from driving.planner.scene_encoder import SceneEncoder, SceneTokens
from driving.planner.style_dropout import StyleDropout
from driving.planner.style_injection import ModulatedNorms, StyleInjection
from driving.planner.sub_score_heads import (
    Selection,
    SubScoreHeads,
    expected_distance,
    sub_scores_of,
)
from driving.planner.trace_anchor import Beginnings, TraceAnchor
from driving.planner.trace_condition import TraceCondition, TraceTraining
from personalize.steering.guidance import guide

TRAINING_STEPS = 50
NOISE_STEP = 8
DENOISING_STEPS = (10, 0)
HEADING_WEIGHT = 2.0
"""A radian weighs as two metres: a vehicle's front lies about so far from its centre."""
SCORE_WEIGHT = 1.0
SUB_SCORE_WEIGHT = 1.0
SURVEYED_AT_ONCE = 2048


class DiffusionPlanner(LearnedPlanner, EncodesScenes):
    """Anchor-based truncated diffusion with a style.

    Trajectories are told as changes: how much further along the way and how much further to its
    left the ego is than if it went on as now. Anchors are typical changes, so twenty of them lie
    closer together than twenty futures would, and one that changes nothing follows the road.

    Training noises the anchors at a step t in [0, 50) of 1000 and asks for the future itself
    (sample prediction). Every decoder layer is supervised, in equal parts: L1 distance of the
    winning anchor's answer (the anchor nearest to the future by mean distance) in metres plus
    twice the heading's in radians, and the cross-entropy of the scores with the winner. To them
    comes the sub-scores' loss where targets are known. All weights are 1.

    Inference noises the anchors at t = 8 and takes two DDIM steps, at t = 10 and 0. The noise is
    the same for every row, so a batch equals its rows.

    What differs from DiffusionDrive (Liao et al., 2024, arXiv:2411.15139) beside vector input:
    anchors are changes from going on as now along the way. Every layer answers relative to the
    clean anchor, which the decoder sees beside the noisy one. Relative to the noisy one an
    answer has to carry the noise through every norm to take it off again: sixteen scenes were
    then learnt to 1.3 m and not to 0.02 m in as many steps. Scales of noise and offsets are
    fitted per step rather than fixed; no clamping to [-1, 1]; the heading has an anchor of its
    own and no tanh; cross-entropy in place of a focal loss, so scores are log-probabilities;
    style and time modulate norms (adaLN) in place of FiLM after the layers; DDIM goes from 10
    to 0 directly.

    A style steers by guidance: `u + guidance * (c - u)`, where `c` is the answer under the style
    and `u` the one under none, for poses as for scores. 1 is the plain answer under the style and
    costs no second pass, 0 ignores the style, more than 1 exaggerates it.

    A planner trained with traces can be given one: way-points which it is asked to pass. It then
    has one more candidate, which begins at the trace; see `TraceAnchor`. Both answers of guidance
    see it, and the safety gate may shut it out.

    Attributes:
        guidance: May be set at any time.
        selection: Likewise.
    """

    anchors: Tensor
    centre_m: Tensor
    scale_m: Tensor
    unit: Tensor
    surveyed: Tensor
    signal: Tensor

    def __init__(  # noqa: PLR0913  (each one is a documented option of the configuration)
        self,
        *,
        width: int = 64,
        heads: int = 4,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        feedforward: int = 128,
        anchors: int = 20,
        history_steps: int = 11,
        injection: StyleInjection | None = None,
        style_dropout: StyleDropout | None = None,
        teacher_share: float = 0.5,
        guidance: float = 1.0,
        selection: Selection | None = None,
        trace: TraceTraining | None = None,
    ) -> None:
        """Set the sizes.

        Args:
            width: Numbers per token and candidate.
            heads: Attention heads; they divide the width.
            encoder_layers: Transformer layers over the scene.
            decoder_layers: Layers over the candidates.
            feedforward: Width inside feed-forward networks.
            anchors: Number of anchors, which is the number of candidates.
            history_steps: Newest steps of the ego's history that are read.
            injection: How the decoder is told the style. Default: `ModulatedNorms`.
            style_dropout: How often training hides the style. Default: 15 % wholly.
            teacher_share: Share of rows that learn a teacher's future where there is one.
            guidance: Strength of the style at inference.
            selection: How the plan is picked. Default: by score within the safety gate.
            trace: How training draws traces. Default: the planner knows none, and has no weights
                for them.

        Raises:
            ValueError: If a size is out of range.
        """
        super().__init__()
        if anchors < 1:
            raise ValueError(f"anchors must be at least 1, got {anchors}.")
        if not 0 <= teacher_share <= 1:
            raise ValueError(f"teacher_share must be from 0 to 1, got {teacher_share:g}.")
        injection = injection or ModulatedNorms()
        self.encoder = SceneEncoder(
            width,
            heads=heads,
            layers=encoder_layers,
            feedforward=feedforward,
            history_steps=history_steps,
        )
        self.decoder = DiffusionDecoder(width, heads, decoder_layers, feedforward, injection)
        self.sub_score_heads = SubScoreHeads(width, heads)
        self.trace_anchor = None if trace is None else TraceAnchor(width)
        self.trace = trace
        self.reads_style = injection.reads_style
        self.style_dropout = style_dropout or StyleDropout()
        self.teacher_share = teacher_share
        self.guidance = guidance
        self.selection = selection or Selection()
        self.register_buffer("signal", signal_shares(), persistent=False)
        self.register_buffer("surveyed", torch.tensor(False))
        for name, value in vars(straight_anchors(anchors)).items():
            self.register_buffer("anchors" if name == "poses" else name, value)

    def survey(
        self,
        scenes: PlannerInput,
        futures: Float[Tensor, "sample variant time 3"],
        mask: Bool[Tensor, "sample variant time"],
    ) -> None:
        """Fit anchors and scales to how futures differ from going on as now, once.

        Raises:
            InputError: If there are fewer distinct futures than anchors.
        """
        if bool(self.surveyed):
            return
        changes = [
            going_on(scenes.rows(slice(first, first + SURVEYED_AT_ONCE))).changes(
                futures[first : first + SURVEYED_AT_ONCE]
            )
            for first in range(0, len(futures), SURVEYED_AT_ONCE)
        ]
        flat = torch.cat(changes).flatten(0, 1)
        self.set_anchors(fitted_anchors(flat.cpu(), mask.flatten(0, 1).cpu(), len(self.anchors)))

    def set_anchors(self, anchors: Anchors) -> None:
        """Use these anchors from now on."""
        self.anchors.copy_(anchors.poses)
        self.centre_m.copy_(anchors.centre_m)
        self.scale_m.copy_(anchors.scale_m)
        self.unit.copy_(anchors.unit)
        self.surveyed.fill_(value=True)

    def scene_vectors(self, scene: PlannerInput) -> Float[Tensor, "batch width"]:
        """The ego's token beside the mean of all tokens."""
        return self.encoder(scene).vector

    @torch.no_grad()
    def plan(
        self,
        scene: PlannerInput,
        style: StyleCondition,
        *,
        seed: int = 0,
        trace: TraceCondition | None = None,
    ) -> Plans:
        """One candidate per anchor, in the order of the anchors, and with a trace one for it.

        Args:
            scene: A batch.
            style: What is asked for.
            seed: Of the noise.
            trace: Way-points to pass, where any are asked for.

        Raises:
            ValueError: If there is a trace and the planner was built without `trace`.
        """
        encoded = self.encoder(scene)
        seen = self.decoder.see(encoded.tokens, encoded.mask)
        if trace is None:
            changes, logits = self._denoised(seen, style, seed)
            return self.picked(scene, encoded, changes, logits, style)
        begun = self._begun(trace, going_on(scene))
        changes, logits = self._denoised(seen, style, seed, begun)
        changes, logits = begun.filled(changes), begun.counted(logits)
        plans = self.picked(scene, encoded, changes, logits, style)
        return Plans(plans.poses, begun.counted(plans.scores))

    def picked(
        self,
        scene: PlannerInput,
        encoded: SceneTokens,
        changes: Float[Tensor, "batch candidate time 3"],
        logits: Float[Tensor, "batch candidate"],
        style: StyleCondition,
        *,
        worth: Float[Tensor, "batch candidate"] | None = None,
    ) -> Plans:
        """Candidates with the scores that `selection` gives them.

        Args:
            scene: A batch.
            encoded: What the encoder made of it.
            changes: Candidates, as changes along the way.
            logits: Their probabilities before the softmax.
            style: What is asked for.
            worth: Added to the scores of the candidates that the safety gate admits.
        """
        outputs = self.sub_score_heads(self.normalised(changes), encoded.tokens, encoded.mask)
        poses = going_on(scene).poses(changes)
        shares = logits.to(poses.dtype).log_softmax(-1)
        merit = -expected_distance(changes, shares.exp()) if self.selection.central else shares
        scores = self.selection.scores(
            merit if worth is None else merit + worth,
            sub_scores_of(outputs.to(poses.dtype)),
            self.sub_score_heads.known,
            style,
        )
        return Plans(poses, scores)

    def sub_scores(
        self, scene: PlannerInput, poses: Float[Tensor, "batch proposal time 3"]
    ) -> Float[Tensor, "batch proposal head"]:
        """Predicted sub-scores of any trajectories, in the order of `SUB_SCORES`."""
        encoded = self.encoder(scene)
        changes = going_on(scene).changes(poses)
        outputs = self.sub_score_heads(self.normalised(changes), encoded.tokens, encoded.mask)
        return sub_scores_of(outputs)

    def loss(self, batch: PlanningBatch) -> dict[str, Float[Tensor, ""]]:
        """`loss` and its parts `regression`, `scores` and, with targets, `sub_scores`."""
        lesson = drawn_lesson(batch, self.teacher_share)
        future, mask = lesson.future, lesson.future_mask
        encoded = self.encoder(lesson.scene)
        seen = self.decoder.see(encoded.tokens, encoded.mask)
        base = going_on(lesson.scene)
        style = self.style_dropout(lesson.style) if self.training else lesson.style
        rows, device = len(batch), future.device
        time = torch.randint(TRAINING_STEPS, (rows,), device=device)
        begun = Beginnings(self.anchors)
        if self.trace is not None:
            trace, future = self.trace(future, mask, base)
            begun = self._begun(trace, base)
        clean, notes = self.normalised(begun.anchors), begun.notes
        noise = torch.randn(rows, clean.shape[-3], PLAN_STEPS, 2, device=device)
        noisy = self.noised(clean[..., :2], noise, time[:, None, None, None])
        answers = self.decoder(noisy, clean, time.float(), style, seen, notes, every_layer=True)
        winner = self._winner(base.changes(future[:, None])[:, 0], mask)
        winner = winner if notes is None else notes.last_where_present(winner)
        regression, scores = future.new_zeros(()), future.new_zeros(())
        for answer in answers:
            more = self._answer_losses(answer, winner, base, future, mask, begun)
            regression, scores = regression + more[0], scores + more[1]
        regression, scores = regression / len(answers), scores / len(answers)
        parts = {"regression": regression, "scores": scores}
        total = regression + SCORE_WEIGHT * scores
        if lesson.proposals is not None:
            parts["sub_scores"] = self._sub_score_loss(lesson.proposals, base, encoded)
            total = total + SUB_SCORE_WEIGHT * parts["sub_scores"]
        return {"loss": total, **parts}

    def _denoised(
        self,
        seen: SeenScene,
        style: StyleCondition,
        seed: int,
        begun: Beginnings | None = None,
    ) -> tuple[Float[Tensor, "batch candidate time 3"], Float[Tensor, "batch candidate"]]:
        """Poses and scores after the DDIM steps."""
        rows = len(style.values)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(self.anchors), PLAN_STEPS, 2, generator=generator)
        if begun is not None:
            noise = torch.cat([noise, torch.randn(1, PLAN_STEPS, 2, generator=generator)])
        noise = noise.to(self.anchors.device, non_blocking=True)
        begun = begun or Beginnings(self.anchors)
        clean = self.normalised(begun.anchors)
        noisy = self.noised(clean[..., :2], noise, NOISE_STEP).expand(rows, -1, -1, -1)
        guided = self.guidance != 1.0 and self.reads_style
        if guided:
            seen, style, begun = seen.repeated(2), _beside_none(style), begun.twice()
            clean = self.normalised(begun.anchors)
        poses, logits = noisy, noisy
        for step, following in zip(DENOISING_STEPS, (*DENOISING_STEPS[1:], None), strict=True):
            time = noise.new_full((len(style.values),), float(step))
            twice = torch.cat([noisy, noisy]) if guided else noisy
            (said,) = self.decoder(twice, clean, time, style, seen, notes=begun.notes)
            poses, logits = self.changes_of(said, begun.anchors), said.logits
            if guided:
                poses, logits = self._guided(poses), self._guided(logits)
            if following is not None:
                found = self.normalised(poses)[..., :2]
                shares = self.signal[step], self.signal[following]
                left = (noisy - shares[0].sqrt() * found) / (1 - shares[0]).sqrt()
                noisy = shares[1].sqrt() * found + (1 - shares[1]).sqrt() * left
        return poses, logits

    def _begun(self, trace: TraceCondition, base: GoingOn) -> Beginnings:
        if self.trace_anchor is None:
            raise ValueError("this planner was trained without traces; train it with `trace`.")
        return self.trace_anchor(trace, base, self.anchors)

    def _guided(self, both: Float[Tensor, "both ..."]) -> Float[Tensor, "batch ..."]:
        styled, plain = both.chunk(2)
        return guide(plain, (styled, self.guidance))

    @property
    def clean(self) -> Float[Tensor, "candidate time 3"]:
        """The anchors, normalised."""
        return self.normalised(self.anchors)

    def normalised(self, poses: Float[Tensor, "*batch time 3"]) -> Float[Tensor, "*batch time 3"]:
        """Changes in the units of the noise; headings as they are."""
        places = (poses[..., :2] - self.centre_m) / self.scale_m
        return torch.cat([places, poses[..., 2:]], dim=-1)

    def noised(
        self, clean: Float[Tensor, "..."], noise: Float[Tensor, "..."], step: Tensor | int
    ) -> Float[Tensor, "..."]:
        """What is clean with the noise of a step."""
        share = self.signal[step]
        return share.sqrt() * clean + (1 - share).sqrt() * noise

    def changes_of(
        self, said: Decoded, anchors: Float[Tensor, "*#batch candidate time 3"]
    ) -> Float[Tensor, "batch candidate time 3"]:
        """The changes an answer means: anchors, and offsets in their unit."""
        offsets = said.offsets.to(self.unit.dtype)  # computed in less precision on a GPU
        return torch.addcmul(anchors, offsets, self.unit)

    def _winner(
        self, changes: Float[Tensor, "batch time 3"], mask: Bool[Tensor, "batch time"]
    ) -> Int[Tensor, " batch"]:
        """The clean anchor nearest to the future's changes by mean distance over its steps."""
        gaps = (self.anchors[None, ..., :2] - changes[:, None, :, :2]).square().sum(-1).sqrt()
        return (gaps * mask[:, None]).sum(-1).argmin(-1)

    def _answer_losses(
        self,
        answer: Decoded,
        winner: Int[Tensor, " batch"],
        base: GoingOn,
        future: Float[Tensor, "batch time 3"],
        mask: Bool[Tensor, "batch time"],
        begun: Beginnings | None = None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Regression of the winner per known step, and cross-entropy per row with a future."""
        begun, index = begun or Beginnings(self.anchors), winner[:, None, None, None]
        offsets = answer.offsets.take_along_dim(index, 1)[:, 0].to(future.dtype)
        changes = torch.addcmul(begun.chosen(winner), offsets, self.unit)
        off = (base.poses(changes[:, None])[:, 0] - future).abs()
        per_step = off[..., 0] + off[..., 1] + HEADING_WEIGHT * off[..., 2]
        rows = mask.any(-1)
        regression = (per_step * mask).sum() / mask.sum().clamp_min(1)
        logits = begun.counted(answer.logits.to(future.dtype))
        entropy = functional.cross_entropy(logits, winner, reduction="none")
        return regression, (entropy * rows).sum() / rows.sum().clamp_min(1)

    def _sub_score_loss(
        self, proposals: ScoredProposals, base: GoingOn, encoded: SceneTokens
    ) -> Float[Tensor, ""]:
        normalised = self.normalised(base.changes(proposals.poses))
        outputs = self.sub_score_heads(normalised, encoded.tokens, encoded.mask)
        return self.sub_score_heads.loss(outputs.to(proposals.poses.dtype), proposals)


def _beside_none(style: StyleCondition) -> StyleCondition:
    """The styles, and then none for each of them."""
    return StyleCondition(
        torch.cat([style.values, torch.zeros_like(style.values)]),
        torch.cat([style.mask, torch.zeros_like(style.mask)]),
    )
