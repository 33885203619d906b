"""Implements Exporter: writes a fine-tune as files that other tools read. ``interop`` knows their layouts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor, nn

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.components import without_progress_bars
from packshot.diffusion.durable import write_file
from packshot.diffusion.foreign_files import OWN_HEADER_FILE
from packshot.diffusion.interop import to_diffusers, to_kohya
from packshot.diffusion.methods.full import DELTA
from packshot.diffusion.protocols import TOKEN_PREFIX
from packshot.diffusion.weights import WeightsHeader, header_text, read_weights, token_rows
from packshot.domain.errors import InvalidInput
from packshot.domain.models import BaseModelRef, ExportFormat
from packshot.domain.training_choices import Method
from packshot.ports import LoadedFineTune


class DiffusersExporter:
    """Exports fine-tunes of bases in the diffusers layout."""

    def __init__(self, bases: DiffusersBaseModels) -> None:
        self._bases = bases

    def export(
        self, base: BaseModelRef, fine_tune: LoadedFineTune, form: ExportFormat, title: str, out: Path
    ) -> list[Path]:
        """Write the files into ``out``; a full fine-tune becomes a pipeline folder there. Returns what was written.

        Raises:
            InvalidInput: no other tool has a layout for this method.
            IncompatibleFineTune: the layout has no place for a layer.
            CorruptArtifact, BaseModelRefused: the weights are damaged, or the base cannot be loaded.
            WorkspaceUnusable: ``out`` cannot be written.
        """
        weights = fine_tune.read()
        header, tensors = read_weights(weights)
        if form is ExportFormat.SAFETENSORS:
            return _write(out, {f"{title}.safetensors": weights})
        if header.method is Method.HYPERNETWORK or (header.method is Method.FULL and form is ExportFormat.KOHYA):
            raise InvalidInput(
                f"no other tool reads a {header.method} fine-tune in the {form} layout; choose "
                + ("diffusers or safetensors" if header.method is Method.FULL else "safetensors")
            )
        with self._bases.borrow(base) as loaded:
            if form is ExportFormat.KOHYA:
                return _write(out, to_kohya(loaded, header, tensors, title, base.resolution))
            if header.method is not Method.FULL:
                return _write(out, to_diffusers(loaded, header, tensors))
        return _write_pipeline(self._bases.folder_of(base), header, tensors, out / title)


def _write(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    for name, data in files.items():
        write_file(out / name, data)
    return [out / name for name in files]


def _write_pipeline(folder: Path, header: WeightsHeader, tensors: Mapping[str, Tensor], out: Path) -> list[Path]:
    """The base's pipeline with the learned parameters in place of its own, and with the token in its vocabularies."""
    with without_progress_bars():
        pipeline: Any = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
        for name, tensor in tensors.items():
            component, _, parameter = name.partition(".")
            if not name.startswith(TOKEN_PREFIX):
                weight = getattr(pipeline, component).get_parameter(parameter.removesuffix(DELTA)).data
                weight.copy_(weight + tensor.to(weight) if parameter.endswith(DELTA) else tensor)
        for encoder, rows in token_rows(tensors).items():
            _teach(
                getattr(pipeline, encoder),
                getattr(pipeline, encoder.replace("text_encoder", "tokenizer")),
                header,
                rows,
            )
        pipeline.save_pretrained(out)
    write_file(out / OWN_HEADER_FILE, header_text(header).encode())
    return [out]


def _teach(encoder: Any, tokenizer: Any, header: WeightsHeader, rows: Tensor) -> None:
    """Give a vocabulary the token, and the embedding its rows: behind its end, or where it has rows to spare."""
    pieces = [header.token, *(f"{header.token}_{number}" for number in range(1, len(rows)))]
    tokenizer.add_tokens(pieces)
    first = tokenizer.convert_tokens_to_ids(header.token)
    table = encoder.get_input_embeddings().weight.detach()
    taught = torch.cat([table[:first], rows, table[first + len(rows) :]])
    encoder.set_input_embeddings(nn.Embedding.from_pretrained(taught))
    encoder.config.vocab_size = len(taught)
    if encoder.config.model_type == "clip_text_model":
        encoder.config.eos_token_id = tokenizer.eos_token_id
