"""The Judge port with transformers: any image model for embeddings, any CLIP model for prompt adherence.

Does not know what its numbers decide; see ``packshot.domain.evaluation``. A model that answers with NaN, infinity or
nothing but zeros gives NaN here, never an invented number: the gate sends that to review.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, CLIPModel
from transformers.utils import logging as transformers_logging

from packshot.domain.errors import JudgeUnusable
from packshot.domain.evaluation import Embedding
from packshot.imaging.pixels import open_png
from packshot.judging.cutout import cut_out
from packshot.judging.digest import READ_SUFFIXES, folder_digest

_BATCH_SIZE = 32
T = TypeVar("T")


class TransformersJudge:
    """Judges with two models in the transformers layout, each a folder or a hub id; loaded when first needed.

    ``embedder`` is anything AutoModel loads for images (DINO, ViT, ConvNeXt, ResNet, CLIP); ``clip`` a CLIPModel with
    its tokenizer. A folder is read without a network; weights are safetensors, code from a hub is never run.
    """

    def __init__(self, embedder: Path | str, clip: Path | str, device: str = "cpu") -> None:
        self._sources = (str(embedder), str(clip))
        self._device = device

    @property
    def digest(self) -> str:
        """sha256 over the files of both models.

        Raises:
            JudgeUnusable: one of them cannot be found.
        """
        return self._digest

    def embed(self, images: Sequence[bytes], masks: Sequence[bytes | None]) -> list[Embedding]:
        """Unit vectors of the pictures (PNGs), one for each; with a mask, of the product alone on mid grey.

        Raises:
            JudgeUnusable: the embedder cannot be found or loaded.
        """
        assert len(images) == len(masks), "one mask, or None, per picture"
        embeddings: list[Embedding] = []
        for batch in _batches(list(zip(images, masks, strict=True))):
            pictures = [open_png(png) for png, _ in batch]
            pictures = [
                picture if mask is None else cut_out(picture, mask)
                for picture, (_, mask) in zip(pictures, batch, strict=True)
            ]
            features = _unit(self._embedder.features(pictures))
            embeddings += [tuple(row) for row in features.tolist()]
        return embeddings

    def adherence(self, images: Sequence[bytes], prompts: Sequence[str]) -> list[float]:
        """Cosine similarity of each picture with its prompt in CLIP's space (Hessel et al. 2021, CLIPScore, unscaled).

        A prompt is cut at the length that the model reads.

        Raises:
            JudgeUnusable: the CLIP model cannot be found or loaded.
        """
        assert len(images) == len(prompts), "one prompt per picture"
        scores: list[float] = []
        for batch in _batches(list(zip(images, prompts, strict=True))):
            seen = _unit(self._clip.features([open_png(png) for png, _ in batch]))
            read = _unit(self._clip_text([prompt for _, prompt in batch]))
            scores += (seen * read).sum(dim=1).tolist()
        return scores

    @cached_property
    def _folders(self) -> tuple[Path, ...]:
        return tuple(_find(source) for source in self._sources)

    @cached_property
    def _digest(self) -> str:
        return folder_digest(self._folders)

    @cached_property
    def _embedder(self) -> "_ImageModel":
        return _load(self._folders[0], self._device)

    @cached_property
    def _clip(self) -> "_ImageModel":
        loaded = _load(self._folders[1], self._device)
        if not isinstance(loaded.model, CLIPModel):
            raise JudgeUnusable(
                f"{self._sources[1]} is a {type(loaded.model).__name__}, which does not read prompts; "
                "set PACKSHOT_JUDGE_CLIP to a CLIP model such as openai/clip-vit-base-patch32"
            )
        return loaded

    @cached_property
    def _tokenizer(self) -> Any:
        folder, num_known = self._folders[1], self._clip.model.config.text_config.vocab_size
        try:
            # Without these files transformers 5 quietly makes a tokenizer that knows no word.
            if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
                raise ValueError("neither tokenizer.json nor vocab.json")
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            if len(tokenizer) > num_known:
                raise ValueError(f"it has {len(tokenizer)} tokens and the model knows {num_known}")
            return tokenizer
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise JudgeUnusable(f"{self._sources[1]} has no usable tokenizer ({error}); copy the model anew") from error

    @torch.inference_mode()
    def _clip_text(self, prompts: Sequence[str]) -> Tensor:
        longest = self._clip.model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            list(prompts), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        ).to(self._device)
        features = self._clip.model.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
        return _pooled(features)


@dataclass(frozen=True, kw_only=True)
class _ImageModel:
    """A loaded model with what prepares its pictures. ``has_pooler``: its pooled output comes of trained weights."""

    model: Any
    processor: Any
    device: str
    has_pooler: bool

    @torch.inference_mode()
    def features(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(pictures, features), not normalised."""
        pixels = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"].to(self.device)
        if hasattr(self.model, "get_image_features"):
            return _pooled(self.model.get_image_features(pixel_values=pixels))
        output = self.model(pixel_values=pixels)
        if self.has_pooler and getattr(output, "pooler_output", None) is not None:
            return output.pooler_output.flatten(1)
        hidden = output.last_hidden_state
        # A convolutional model answers (batch, channels, height, width), a transformer (batch, tokens, channels).
        return hidden.mean(dim=(2, 3)) if hidden.ndim == 4 else hidden[:, 0]


def _find(source: str) -> Path:
    """The folder that ``source`` is, or into which a hub's files were fetched."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(source, allow_patterns=[f"*{suffix}" for suffix in READ_SUFFIXES]))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise JudgeUnusable(
            f"the judge's model {source} is neither a folder nor to be had from the hub ({reason}); "
            "check PACKSHOT_JUDGE_EMBEDDER and PACKSHOT_JUDGE_CLIP"
        ) from error


def _load(folder: Path, device: str) -> _ImageModel:
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        model, report = AutoModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise JudgeUnusable(
            f"the judge's model {folder} cannot be loaded ({str(error).strip()[:300]}); give a folder with "
            "config.json, preprocessor_config.json and model.safetensors, as save_pretrained writes them"
        ) from error
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    missing = [key for key in report["missing_keys"] if "pooler" not in key]
    if missing or report["mismatched_keys"]:
        raise JudgeUnusable(
            f"the judge's model {folder} lacks weights that its configuration names, such as "
            f"{[*missing, *report['mismatched_keys']][0]}; copy the model anew"
        )
    return _ImageModel(
        model=model.eval().to(device), processor=processor, device=device, has_pooler=not report["missing_keys"]
    )


def _pooled(features: Any) -> Tensor:
    """The features of a CLIP branch: transformers 5 wraps them in an output, 4 gives the tensor."""
    return features if isinstance(features, Tensor) else features.pooler_output


def _unit(features: Tensor) -> Tensor:
    """Rows of unit length; zeros become NaN on purpose."""
    features = features.double().cpu()
    return features / features.norm(dim=1, keepdim=True)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _BATCH_SIZE):
        yield items[start : start + _BATCH_SIZE]
