"""Trains the bundled base: a tokenizer, a small CLIP text encoder and a UNet on the autoencoder's latents.

Text encoder and UNet learn together from the corpus; the result is an ordinary StableDiffusionPipeline folder `base` with
averaged weights. The rate falls to zero over `--minutes`, counted over all sessions. Does not know the judge or fp16.
"""

import argparse
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from rich.progress import Progress, track
from safetensors.torch import load_file
from training.corpus import Corpus, read_corpus
from training.pictures import write_sheet
from training.run import Run, autocast, load_ema, memory_format, new_ema, update_ema
from training.settings import PACKAGED, section, work_folder
from training.words import make_tokenizer, save_tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

PREDICTION_TYPE = "v_prediction"
PARTS = {"text_encoder": CLIPTextModel, "unet": UNet2DConditionModel}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=45.0, help="training time over all sessions")
    parser.add_argument("--steps", type=int, help="end after so many steps instead, if they are reached first")
    parser.add_argument("--export", action="store_true", help="no training: save the pipeline of the checkpoint")
    parser.add_argument("--warm-start", action="store_true", help="begin with the packaged weights, not random ones")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    settings, seed, work = section("base"), section("seed"), work_folder()
    torch.manual_seed(seed)

    folder = work / "base_run"
    if arguments.warm_start:
        take_packaged(work, folder)
    corpus = read_corpus(work / "corpus")
    folder.mkdir(exist_ok=True)
    tokenizer = make_tokenizer(corpus, folder / "tokenizer")
    autoencoder = AutoencoderKL.from_pretrained(work / "autoencoder/vae").eval()
    latents = cache_latents(autoencoder, corpus, folder, work / "autoencoder/vae")
    if arguments.warm_start:
        modules = {name: kind.from_pretrained(PACKAGED / name).float() for name, kind in PARTS.items()}
    else:
        modules = {
            "text_encoder": build_text_encoder(settings, tokenizer),
            "unet": build_unet(settings, latents.shape[2]),
        }
    modules["unet"].set_attn_processor(AttnProcessor())  # at 64 tokens a quarter faster to train than the fused kernel
    trainer = Trainer(modules, tokenizer, autoencoder, corpus, latents, settings, seed)
    modules["unet"].to(memory_format=memory_format())
    parameters = [parameter for module in modules.values() for parameter in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, settings["learning_rate"], betas=(0.9, 0.99),
                                  weight_decay=settings["weight_decay"], foreach=True)  # fmt: skip
    ema = new_ema(modules)
    run = Run(folder, checkpoint_minutes=settings["checkpoint_minutes"])
    run.resume(modules, optimizer, ema)
    run.limit(minutes=arguments.minutes, steps=arguments.steps)
    print({name: f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f} M" for name, module in modules.items()},
          f"from step {run.step}, {run.spent_s / 60:.1f} min spent", flush=True)  # fmt: skip

    if not arguments.export:
        trainer.train(optimizer, ema, run, folder)
    if arguments.export or not run.interrupted:
        load_ema(modules, ema)
        modules["unet"].to(memory_format=torch.contiguous_format)
        pipeline = trainer.pipeline()
        pipeline.save_pretrained(work / "base", safe_serialization=True)
        save_tokenizer(tokenizer, work / "base/tokenizer")
        trainer.draw_sheet(folder / "sheet.png")
        print(f"saved {work / 'base'}; look at {folder / 'sheet.png'}")


def take_packaged(work: Path, folder: Path) -> None:
    """Puts the packaged autoencoder and tokenizer, which the packaged weights need, where none were made here."""
    for source, target in (("vae", work / "autoencoder/vae"), ("tokenizer", folder / "tokenizer")):
        if not target.is_dir():
            shutil.copytree(PACKAGED / source, target)
        elif not same(PACKAGED / source, target):
            sys.exit(
                f"{target} is not what the packaged weights were trained with: move it away, or leave out --warm-start"
            )


def same(packaged: Path, own: Path) -> bool:
    """Whether the vocabulary, or the weights as 16-bit floats, are equal."""
    if (packaged / "vocab.json").is_file():
        return (packaged / "vocab.json").read_text() == (own / "vocab.json").read_text()
    one, other = (load_file(folder / "diffusion_pytorch_model.safetensors") for folder in (packaged, own))
    return one.keys() == other.keys() and all(torch.equal(one[key].half(), other[key].half()) for key in one)


def build_text_encoder(settings: dict, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    width = settings["text_hidden"]
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width, projection_dim=width,
        num_hidden_layers=settings["text_layers"], num_attention_heads=settings["text_heads"],
        max_position_embeddings=tokenizer.model_max_length, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    ))  # fmt: skip


def build_unet(settings: dict, channels: int) -> UNet2DConditionModel:
    attention = settings["unet_attention"]
    return UNet2DConditionModel(
        sample_size=16, in_channels=channels, out_channels=channels, block_out_channels=settings["unet_channels"],
        layers_per_block=settings["unet_layers"], norm_num_groups=settings["unet_groups"],
        attention_head_dim=settings["unet_heads"], time_embedding_dim=settings["unet_times"], cross_attention_dim=settings["text_hidden"],
        down_block_types=["CrossAttnDownBlock2D" if cross else "DownBlock2D" for cross in attention],
        up_block_types=["CrossAttnUpBlock2D" if cross else "UpBlock2D" for cross in reversed(attention)],
    )  # fmt: skip


@torch.no_grad()
def cache_latents(autoencoder: AutoencoderKL, corpus: Corpus, folder: Path, source: Path) -> np.ndarray:
    """float16 (count, 2, channels, 16, 16): every picture and its mirror image, encoded once per corpus and autoencoder."""
    path = folder / "latents.npy"
    newest = max((source / "config.json").stat().st_mtime, (source.parents[1] / "corpus/index.jsonl").stat().st_mtime)
    if path.is_file() and path.stat().st_mtime > newest:
        return np.load(path)
    parts = []
    for start in track(range(0, len(corpus.rows), 32), "latents"):
        pictures = torch.from_numpy(np.array(corpus.images[start : start + 32])).permute(0, 3, 1, 2).float() / 127.5 - 1
        both = torch.cat([pictures, pictures.flip(-1)])
        plain, mirrored = autoencoder.encode(both).latent_dist.mean.mul(autoencoder.config.scaling_factor).chunk(2)
        parts.append(torch.stack([plain, mirrored], 1).half().numpy())
    latents = np.concatenate(parts)
    with (folder / "latents.part").open("wb") as file:
        np.save(file, latents)
    (folder / "latents.part").replace(path)
    return latents


class Trainer:
    """The objective, its samples and the sheets; the loop in `train`."""

    def __init__(self, modules: dict[str, torch.nn.Module], tokenizer: CLIPTokenizer, autoencoder: AutoencoderKL,
                 corpus: Corpus, latents: np.ndarray, settings: dict, seed: int) -> None:  # fmt: skip
        self.modules, self.tokenizer, self.autoencoder = modules, tokenizer, autoencoder
        self.corpus, self.latents, self.settings, self.seed = corpus, latents, settings, seed
        self.noise = DDPMScheduler(beta_start=settings["beta_start"], beta_end=settings["beta_end"],
                                   beta_schedule="scaled_linear", prediction_type=PREDICTION_TYPE)  # fmt: skip
        variances = torch.from_numpy(latents[::8].astype(np.float32)).transpose(0, 2).flatten(1).var(1)
        self.channel_weights = variances[:, None, None] ** -settings["whitening"]
        self.indices = corpus.indices("train")
        self.weights = sampling_weights(corpus, self.indices, settings["photo_share"])
        self.token_ids = [torch.tensor(self.tokenize(row["captions"])) for row in corpus.rows]
        self.empty_ids = torch.tensor(self.tokenize([""]))[0]

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, padding="max_length", truncation=True)["input_ids"]

    def train(self, optimizer: torch.optim.Optimizer, ema: dict[str, torch.Tensor], run: Run, folder: Path) -> None:
        """The steps of this session; each step draws from its own seed, so that a resumed run draws the same."""
        settings, parameters = self.settings, [p for module in self.modules.values() for p in module.parameters()]
        sheet_s = run.spent_s
        with Progress() as bars:
            bar = bars.add_task("base", total=1.0)
            while run.going():
                generator = np.random.default_rng([self.seed, run.step])
                torch.manual_seed(self.seed + run.step)
                warm = min(1.0, (run.step + 1) / settings["warmup_steps"])
                for group in optimizer.param_groups:
                    group["lr"] = settings["learning_rate"] * warm * (0.5 + 0.5 * math.cos(math.pi * run.progress))
                chosen = generator.choice(self.indices, settings["batch"], p=self.weights)
                loss = self.loss(chosen, generator)
                optimizer.zero_grad()
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                update_ema(ema, self.modules, run.step, settings["ema_decay"])
                if logged := run.advance({"loss": loss.item(), "gradient_norm": norm.item()}):
                    text = f"step {run.step} loss {logged['loss']:.4f}"
                    bars.update(bar, completed=run.progress, description=text)
                if run.spent_s - sheet_s > settings["sheet_minutes"] * 60:
                    sheet_s = run.spent_s
                    self.check(ema, run, folder)
        run.save()

    def loss(self, chosen: np.ndarray, generator: np.random.Generator) -> torch.Tensor:
        """Min-SNR weighted mean squared error of the velocity (Hang et al. 2023), timesteps stratified over the batch.

        The weight does not fall with the signal: the noisiest steps decide what a picture shows, and where. Channels that
        vary little are weighted up (``whitening``), or nobody would learn them.
        """
        latents, noise, timesteps, ids = self.samples(chosen, generator)
        with autocast():
            states = self.modules["text_encoder"](ids)[0]
            predicted = self.modules["unet"](self.noise.add_noise(latents, noise, timesteps), timesteps, states).sample
        wrong = (predicted.float() - self.noise.get_velocity(latents, noise, timesteps)).square()
        signal = self.noise.alphas_cumprod[timesteps]
        worth = 1 / (1 - signal)  # SNR + 1
        error = (wrong * self.channel_weights).mean(dim=(1, 2, 3))
        return (error * worth.clamp(max=self.settings["min_snr"]) / worth).mean()

    def samples(self, chosen: np.ndarray, generator: np.random.Generator) -> tuple[torch.Tensor, ...]:
        """Latents, noise, time steps and token ids."""
        count, total = len(chosen), self.noise.config.num_train_timesteps
        latents = torch.from_numpy(self.latents[chosen, generator.integers(2, size=count)]).float()
        ids = torch.stack([self.caption(index, generator) for index in chosen])
        timesteps = torch.from_numpy(
            ((generator.permutation(count) + generator.random(count)) / count * total).astype(int)
        )
        return latents, torch.randn_like(latents), timesteps, ids

    def caption(self, index: int, generator: np.random.Generator) -> torch.Tensor:
        """Token ids of one of the picture's captions, or of the empty prompt."""
        if generator.random() < self.settings["caption_dropout"]:
            return self.empty_ids
        ids = self.token_ids[index]
        return ids[generator.integers(len(ids))]

    def check(self, ema: dict[str, torch.Tensor], run: Run, folder: Path) -> None:
        """Validation loss and sheet of the averaged weights; the trained weights come back afterwards."""
        trained = new_ema(self.modules)
        load_ema(self.modules, ema)
        with torch.no_grad():
            torch.manual_seed(self.seed)
            generator = np.random.default_rng(self.seed)
            chosen = generator.permutation(self.corpus.indices("validation"))[:192]
            loss = np.mean([self.loss(part, generator).item() for part in np.array_split(chosen, 4)])
        with (folder / "validation.jsonl").open("a") as file:
            file.write(
                json.dumps({"step": run.step, "minutes": round(run.spent_s / 60, 1), "loss": round(loss, 5)}) + "\n"
            )
        self.draw_sheet(folder / f"sheet-{run.step:05d}.png")
        load_ema(self.modules, trained)

    def pipeline(self) -> StableDiffusionPipeline:
        """The base as diffusers knows it, with DPM-Solver++ (Lu et al. 2022)."""
        scheduler = DPMSolverMultistepScheduler(
            beta_start=self.settings["beta_start"], beta_end=self.settings["beta_end"], beta_schedule="scaled_linear",
            prediction_type=PREDICTION_TYPE, timestep_spacing="trailing",
        )  # fmt: skip
        return StableDiffusionPipeline(
            vae=self.autoencoder, text_encoder=self.modules["text_encoder"], tokenizer=self.tokenizer,
            unet=self.modules["unet"], scheduler=scheduler, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip

    def draw_sheet(self, path: Path) -> None:
        """One row per class, one column per scene of that class in the corpus, the store last."""
        pipeline, captions = self.pipeline(), scene_captions(self.corpus, self.settings["sheet_classes"])
        pipeline.set_progress_bar_config(disable=True)
        rows = []
        for prompts in captions.values():
            pictures = pipeline(
                prompts, num_inference_steps=self.settings["inference_steps"], output_type="np",
                guidance_scale=self.settings["guidance_scale"], generator=torch.Generator().manual_seed(self.seed),
            ).images  # fmt: skip
            rows.append([(picture * 255).round().astype(np.uint8) for picture in pictures])
        write_sheet(path, rows, list(captions))
        path.with_suffix(".json").write_text(json.dumps(captions, indent=1))


def sampling_weights(corpus: Corpus, indices: np.ndarray, photo_share: float) -> np.ndarray:
    """Probabilities of the pictures: a fixed share of photos, and rare classes a little more often than their count."""
    kinds = [(corpus.rows[i]["source"], corpus.rows[i]["class"]) for i in indices]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    weights = np.array([counts[kind] ** -0.5 for kind in kinds])
    for source, share in (("photo", photo_share), ("render", 1 - photo_share)):
        members = np.array([kind[0] == source for kind in kinds])
        weights[members] *= share / max(weights[members].sum(), 1e-12)
    return weights / weights.sum()


def scene_captions(corpus: Corpus, classes: list[str], columns: int = 7) -> dict[str, list[str]]:
    """For each class the first caption of its first picture in every scene: up to `columns`, photos last."""
    found: dict[str, dict[str, str]] = {name: {} for name in classes}
    for row in sorted(corpus.rows, key=lambda row: (row["source"] == "photo", row["count"])):
        if row["class"] in found:
            found[row["class"]].setdefault(row["scene"], row["captions"][0])
    return {name: [*list(scenes.values())[:-1][: columns - 1], *list(scenes.values())[-1:]]
            for name, scenes in found.items() if scenes}  # fmt: skip


if __name__ == "__main__":
    main()
