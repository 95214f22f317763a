"""The extractor with a causal language model in this process, bound to a grammar.

Decoding is greedy and every token is masked by a grammar made from the answer's schema, in which
the evidence must be one of the review's own clauses. So even random weights give valid records, and
no evidence can be invented.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from personalize.preferences.answer_cache import AnswerCache, KeptAnswer
from personalize.preferences.chat import fallen_back
from personalize.preferences.extractor import Extractor, Review, ReviewOpinions
from personalize.preferences.parse import (
    MOST_EVIDENCE_CHARACTERS,
    PreferenceParseError,
    answer_schema,
    grounded,
    parse_answer,
)
from personalize.preferences.prompt import (
    REVIEWS,
    VERSION,
    Prompt,
    Task,
    clean,
    request_key,
    review_prompt,
)
from personalize.preferences.sentences import split_clauses

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MOST_CLAUSES = 24


class LocalModel:
    """A causal language model and its tokenizer, ready to answer in batches.

    Args:
        name: Folder of the model, or its name, which transformers may have to download.
        most_tokens: Tokens of one answer.

    Raises:
        InputError: If xgrammar is not installed or the model cannot be loaded.
    """

    def __init__(self, name: str, *, most_tokens: int = 768) -> None:
        try:
            import xgrammar
        except ImportError as error:
            raise InputError(
                "--extractor local needs xgrammar; install the extra [llm]."
            ) from error
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        on_gpu = torch.cuda.is_available()
        folder = Path(name).is_dir()
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                name, local_files_only=folder, padding_side="left"
            )
            model = AutoModelForCausalLM.from_pretrained(
                name, local_files_only=folder, dtype=torch.bfloat16 if on_gpu else torch.float32
            )
        except (OSError, ValueError, KeyError) as error:
            first = str(error).splitlines()[0]
            raise InputError(
                f"Cannot load the language model {name}: {first}; give its folder with --model."
            ) from error
        self.name = name
        self.most_tokens = most_tokens
        self._tokenizer: PreTrainedTokenizerBase = tokenizer
        model.eval()
        if on_gpu:
            model.to(device="cuda")  # type: ignore[call-arg]
        self._model: PreTrainedModel = model
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        vocabulary = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=model.config.vocab_size
        )
        self._compiler = xgrammar.GrammarCompiler(vocabulary)

    @property
    def fingerprint(self) -> str:
        """Hash of the model's configuration and of a few weights of every parameter."""
        digest = hashlib.sha256(self._model.config.to_json_string().encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.flatten()[:64].float().cpu().numpy().tobytes())
        return digest.hexdigest()[:12]

    def answers(
        self, prompts: Sequence[Prompt], schemas: Sequence[Mapping[str, Any]]
    ) -> tuple[list[str], int, int]:
        """One answer per prompt, each bound to its schema, and the tokens read and written."""
        import torch
        from xgrammar.contrib.hf import LogitsProcessor

        grammars = [
            self._compiler.compile_json_schema(dict(schema), any_whitespace=False)
            for schema in schemas
        ]
        batch = self._tokenizer(
            [self._rendered(prompt) for prompt in prompts],
            return_tensors="pt",
            padding=True,
            return_token_type_ids=False,
        ).to(self._model.device)
        with torch.inference_mode():
            tokens = self._model.generate(  # type: ignore[operator]
                **batch,
                max_new_tokens=self.most_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                logits_processor=[LogitsProcessor(grammars)],
                pad_token_id=self._tokenizer.pad_token_id,
            )
        written = tokens[:, batch["input_ids"].shape[1] :]
        texts = self._tokenizer.batch_decode(written, skip_special_tokens=True)
        count = int((written != self._tokenizer.pad_token_id).sum())
        return texts, int(batch["attention_mask"].sum()), count

    def _rendered(self, prompt: Prompt) -> str:
        """The conversation as one text: by the tokenizer's chat template where it has one."""
        messages = [dict(message) for message in prompt.messages]
        if getattr(self._tokenizer, "chat_template", None):
            return str(
                self._tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True
                )
            )
        return "\n\n".join(message["content"] for message in messages) + "\n\nAnswer: "


class LocalExtractor(Extractor):
    """Reads reviews with a model in this process; the embedded extractor reads what it cannot.

    Args:
        model: The language model.
        aspects: Names of the aspects an opinion may be about.
        embedded: Reads a review whose answer did not end within the tokens allowed.
        cache: Keeps answers between runs.
        batch_size: Reviews answered together.
        most_calls: Reviews to ask the model about; the rest is read embedded.
        task: What the model is asked to do.
    """

    name = "local"

    def __init__(
        self,
        model: LocalModel,
        aspects: Sequence[str],
        embedded: Extractor,
        cache: AnswerCache,
        *,
        batch_size: int = 16,
        most_calls: int | None = None,
        task: Task = REVIEWS,
    ) -> None:
        self._task = task
        self._fingerprint = model.fingerprint
        self.version = f"{VERSION}+{Path(model.name).name}-{self._fingerprint}"
        self._model = model
        self._aspects = tuple(aspects)
        self._embedded = embedded
        self._cache = cache
        self._batch_size = batch_size
        self._most_calls = most_calls
        self._counts = dict.fromkeys(
            ("reviews", "cached", "calls", "read_embedded", "opinions", "tokens_in", "tokens_out"),
            0,
        )

    def read(self, reviews: Sequence[Review]) -> Iterator[ReviewOpinions]:
        """The opinions in each review, in order, a batch at a time."""
        for first in range(0, len(reviews), self._batch_size):
            batch = reviews[first : first + self._batch_size]
            answers = self._answers(batch)
            for review in batch:
                yield self._read_one(review, answers.get(review.review_id))

    def notes(self) -> dict[str, int | float | str]:
        """What the reading took: reviews, calls, tokens and fallbacks."""
        return {"model": self._model.name, **self._counts}

    def _answers(self, batch: Sequence[Review]) -> dict[int, str]:
        """Answers by review: from the cache, else from the model."""
        found: dict[int, str] = {}
        asked: list[tuple[Review, str, Prompt, dict[str, Any]]] = []
        task = self._task
        plain = answer_schema(self._aspects, labels=task.labels)
        for review in batch:
            evidence = quotable_clauses(review.text)
            if not evidence:
                continue
            schema = answer_schema(self._aspects, evidence, labels=task.labels)
            sampling = {"greedy": True, "max_tokens": self._model.most_tokens}
            key = request_key(self._fingerprint, review.text, schema, sampling, task=task)
            if (kept := self._cache.get(key)) is not None and kept.text is not None:
                found[review.review_id] = kept.text
                self._counts["cached"] += 1
            elif self._most_calls is None or self._counts["calls"] < self._most_calls:
                self._counts["calls"] += 1
                delimiter = f"{task.word}-{key[:16]}"  # greedy answers must repeat: nothing random
                prompt = review_prompt(review.text, plain, delimiter, task=task)
                asked.append((review, key, prompt, schema))
        if asked:
            texts, tokens_in, tokens_out = self._model.answers(
                [prompt for _, _, prompt, _ in asked], [schema for *_, schema in asked]
            )
            self._counts["tokens_in"] += tokens_in
            self._counts["tokens_out"] += tokens_out
            for (review, key, _, _), text in zip(asked, texts, strict=True):
                found[review.review_id] = text
                self._cache.put(key, KeptAnswer(text))
        return found

    def _read_one(self, review: Review, answer: str | None) -> ReviewOpinions:
        self._counts["reviews"] += 1
        if answer is None:
            quotable = bool(quotable_clauses(review.text))
            return self._read_embedded(
                review, "no call was left" if quotable else "no clause could be quoted"
            )
        try:
            stated = parse_answer(answer, self._aspects, labels=self._task.labels)
        except PreferenceParseError as error:
            return self._read_embedded(review, str(error))
        opinions, refusals = grounded(stated, review.review_id, review.text)
        self._counts["opinions"] += len(opinions)
        return ReviewOpinions(
            review.review_id, opinions, self.name, self.version, refusals, stated.overall
        )

    def _read_embedded(self, review: Review, reason: str) -> ReviewOpinions:
        self._counts["read_embedded"] += 1
        return fallen_back(self._embedded, review, reason)


def quotable_clauses(text: str) -> list[str]:
    """Distinct clauses of a review that the model sees unchanged, so that it can quote them."""
    seen = clean(text)
    clauses = [text[start:end] for start, end in split_clauses(text, most=_MOST_CLAUSES)]
    return [
        clause
        for clause in dict.fromkeys(clauses)
        if clause in seen and len(clause) <= MOST_EVIDENCE_CHARACTERS
    ]
