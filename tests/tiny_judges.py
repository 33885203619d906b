"""Tiny random models in the transformers layout, saved in milliseconds: embedders and a CLIP with its tokenizer."""

import json
from pathlib import Path

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTModel,
)

EDGE = 32


def _save(folder: Path, model: PreTrainedModel, processor: str) -> Path:
    model.save_pretrained(folder)
    settings = {
        "image_processor_type": processor,
        "do_resize": True,
        "do_normalize": True,
        "size": {"height": EDGE, "width": EDGE},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    if processor == "CLIPImageProcessor":
        settings |= {"size": {"shortest_edge": EDGE}, "crop_size": {"height": EDGE, "width": EDGE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def vit(folder: Path, *, pooler: bool = True) -> Path:
    """A ViT; without a pooler as DINO publishes it."""
    torch.manual_seed(0)
    settings = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=EDGE,
        patch_size=8,
        initializer_range=0.5,
    )
    return _save(folder, ViTModel(settings, add_pooling_layer=pooler), "ViTImageProcessor")


def dinov2(folder: Path) -> Path:
    torch.manual_seed(0)
    settings = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=EDGE, patch_size=8, initializer_range=0.5
    )
    return _save(folder, Dinov2Model(settings), "ViTImageProcessor")


def convnext(folder: Path) -> Path:
    torch.manual_seed(0)
    settings = ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], initializer_range=0.5)
    return _save(folder, ConvNextModel(settings), "ViTImageProcessor")


def resnet(folder: Path) -> Path:
    torch.manual_seed(0)
    settings = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic")
    return _save(folder, ResNetModel(settings), "ViTImageProcessor")


def clip(folder: Path) -> Path:
    """A CLIP whose tokenizer knows the single letters."""
    torch.manual_seed(0)
    letters = [f"{letter}{end}" for letter in "abcdefghijklmnopqrstuvwxyz,<>_0123456789" for end in ("", "</w>")]
    words = ["<|startoftext|>", "<|endoftext|>", *letters]
    text = {
        "vocab_size": len(words),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": EDGE,
        "patch_size": 8,
    }
    _save(
        folder, CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)), "CLIPImageProcessor"
    )
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokens = {"bos_token": words[0], "eos_token": words[1], "unk_token": words[1], "pad_token": words[1]}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16, **tokens}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
