"""Makes the autoencoder of the bundled base, in two parts: 128 x 128 pictures to 16 x 16 latents and back.

`core` trains an encoder and a decoder of 16 latents, which decide what a picture shows. `details` puts more latents beside
them, which say what the core's pictures miss: the encoder stays as it is, so a base for the core's latents goes on being one,
and the decoder learns to read both, and to do without details that are wrong. Each learns on random 64 x 64 crops at a
steady rate for as long as it may (renders join as they arrive), then, with `--finish-minutes`, on whole pictures while the
rate falls to zero. Core latents are standard and scaling_factor is 1 (Stable Diffusion pipelines know no shift_factor).
Does not know captions, classes, or the diffusion model.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from rich.progress import Progress
from torch.nn import functional
from training.details import with_details
from training.pictures import Picture, load_rgb, read_photos, read_renders, write_sheet
from training.run import Run, autocast
from training.settings import grocery_folder, section, work_folder

REREAD_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["core", "details"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="limit of the crop phase, over all sessions")
    parser.add_argument("--steps", type=int, help="limit of the crop phase (or of the finish) in steps")
    parser.add_argument("--finish-minutes", type=float, help="anneal on whole pictures for so long, then export")
    parser.add_argument("--export", action="store_true", help="no training: export and report the checkpoint as it is")
    parser.add_argument("--core", type=Path, help="for details: the folder of the core autoencoder, if another one")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings, seed = section("autoencoder"), section("seed")
    torch.manual_seed(seed)

    torch.set_flush_denormal(True)
    pool, details = Pool(settings), arguments.part == "details"
    folder = work_folder() / ("autoencoder" if details else "core")
    if details:
        autoencoder = beside(arguments.core or work_folder() / "core/vae", pool, settings, seed)
        autoencoder.encoder.requires_grad_(False)
        autoencoder.quant_conv.requires_grad_(False)
    else:
        autoencoder = build(settings)
    learning = [each for each in autoencoder.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learning, settings["learning_rate"], weight_decay=1e-4, foreach=True)
    run = Run(folder, checkpoint_minutes=settings["checkpoint_minutes"])
    run.resume({"autoencoder": autoencoder}, optimizer)
    finishing = arguments.finish_minutes is not None
    if finishing:
        run.extra.setdefault("finish_s", run.spent_s)
        run.extra.setdefault("finish_step", run.step)
        run.limit(minutes=arguments.finish_minutes, steps=arguments.steps,
                  since_s=run.extra["finish_s"], since_step=run.extra["finish_step"])  # fmt: skip
    else:
        run.limit(minutes=arguments.minutes, steps=arguments.steps)

    if not arguments.export:
        train(autoencoder, optimizer, run, pool, settings, seed, finishing)
    write_check(autoencoder, pool, folder)
    if arguments.export or (finishing and not run.interrupted):
        if not details:
            standardise(autoencoder, encoded(autoencoder, pool.many()))
        autoencoder.save_pretrained(folder / "vae", safe_serialization=True)
        print(f"saved {folder / 'vae'}; look at {folder / 'sheet.png'}")


def beside(core: Path, pool: "Pool", settings: dict, seed: int) -> AutoencoderKL:
    """The core autoencoder with details, which its encoder reads and its decoder has yet to learn."""
    first = AutoencoderKL.from_pretrained(core, torch_dtype=torch.float32)
    pictures = to_tensor(np.stack(pool.some(np.random.default_rng(seed))))
    return with_details(first, pictures, settings["details"], settings["detail_deviation"])


def build(settings: dict) -> AutoencoderKL:
    """The untrained network: three halvings, one ResNet layer a block, no attention."""
    channels = settings["block_out_channels"]
    return AutoencoderKL(
        block_out_channels=channels, down_block_types=["DownEncoderBlock2D"] * len(channels),
        up_block_types=["UpDecoderBlock2D"] * len(channels), layers_per_block=1, scaling_factor=1.0, sample_size=128,
        latent_channels=settings["core_latents"], norm_num_groups=settings["norm_num_groups"],
        mid_block_add_attention=False, force_upcast=True,
    )  # fmt: skip


class Pool:
    """All training pictures in memory: photos at 256 pixels, renders at 128, re-read while they arrive."""

    def __init__(self, settings: dict) -> None:
        self.share, self.floor, self.settings = settings["render_share"], settings["render_floor"], settings
        photos = read_photos(grocery_folder())
        self.photos = [load_rgb(photo.path) for photo in photos if photo.split == "train"]
        self.held_out_photos = [load_rgb(photo.path, 128) for photo in photos if photo.split == "held-out"]
        self.renders: list[np.ndarray] = []
        self.held_out_renders: list[np.ndarray] = []
        self._known: set[Path] = set()
        self.read_new_renders()

    def read_new_renders(self) -> None:
        self._read_at = time.monotonic()
        for render in read_renders(work_folder() / "renders"):
            if render.path not in self._known and (picture := load_rgb(render.path)) is not None:
                self._known.add(render.path)
                self._target(render).append(picture)

    def _target(self, render: Picture) -> list[np.ndarray]:
        return self.renders if render.split == "train" else self.held_out_renders

    def some(self, generator: np.random.Generator) -> list[np.ndarray]:
        """Photos and renders to train on, at 128 pixels, mixed as details are found in them."""
        count, share = self.settings["detail_pictures"], self.settings["detail_render_share"]
        photos = [_crop_photo(photo, generator, 128) for photo in self.photos]
        return [kind[i] for kind, part in ((self.renders, share), (photos, 1 - share))
                for i in generator.permutation(len(kind))[: round(count * part)]]  # fmt: skip

    def many(self) -> list[np.ndarray]:
        """Pictures to measure latents on."""
        return [*self.renders[:1500], *(_crop_photo(each, np.random.default_rng(0), 128) for each in self.photos[::2])]

    def batch(self, generator: np.random.Generator, size: int, count: int) -> torch.Tensor:
        """(count, 3, size, size) in -1..1: crops at 64, whole pictures at 128, half of them mirrored."""
        if time.monotonic() - self._read_at > REREAD_S:
            self.read_new_renders()
        renders = min(1.0, len(self.renders) / self.floor) * self.share
        crops = []
        for _ in range(count):
            if generator.random() < renders:
                crop = _crop_render(self.renders[generator.integers(len(self.renders))], generator, size)
            else:
                crop = _crop_photo(self.photos[generator.integers(len(self.photos))], generator, size)
            crops.append(crop[:, ::-1] if generator.random() < 0.5 else crop)
        return to_tensor(np.stack(crops))


def _crop_render(picture: np.ndarray, generator: np.random.Generator, size: int) -> np.ndarray:
    top, left = generator.integers(picture.shape[0] - size + 1, size=2)
    return picture[top : top + size, left : left + size]


def _crop_photo(picture: np.ndarray, generator: np.random.Generator, size: int) -> np.ndarray:
    """Reduces a square of the 256-pixel original: mostly by about two, the scale at which the base sees photos."""
    side = picture.shape[0]
    reduction = 2.0 if generator.random() < 0.5 else math.exp(generator.uniform(math.log(1.2), math.log(2.2)))
    edge = min(float(side), size * reduction)
    left, top = generator.uniform(0, side - edge, size=2)
    box = (left, top, left + edge, top + edge)
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS, box=box))


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """uint8 (count, height, width, 3) to (count, 3, height, width) in -1..1."""
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()
    return (tensor / 127.5 - 1).contiguous()


def train(autoencoder: AutoencoderKL, optimizer: torch.optim.Optimizer, run: Run, pool: Pool,
          settings: dict, seed: int, finishing: bool) -> None:  # fmt: skip
    """The steps of this session; each step draws from its own seed, so that a resumed run draws the same."""
    size, count = (128, settings["batch_pictures"]) if finishing else (64, settings["batch_crops"])
    with Progress() as bars:
        bar = bars.add_task("autoencoder", total=1.0 if run.progress or finishing else None)
        while run.going():
            generator = np.random.default_rng([seed, run.step])
            torch.manual_seed(seed + run.step)
            warm = min(1.0, (run.step + 1) / settings["warmup_steps"])
            fall = 0.5 + 0.5 * math.cos(math.pi * run.progress) if finishing else 1.0
            for group in optimizer.param_groups:
                group["lr"] = settings["learning_rate"] * warm * fall
            pictures = pool.batch(generator, size, count)
            with autocast():
                posterior = autoencoder.encode(pictures).latent_dist
                decoded = autoencoder.decode(disturbed(posterior.sample(), generator, settings)).sample.float()
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
            pyramid = pyramid_distance(decoded, pictures, settings["pyramid_levels"])
            errors = (decoded - pictures).square().mean(dim=(1, 2, 3))
            loss = pyramid + settings["log_mse_weight"] * errors.log().mean() + settings["kl_weight"] * kl
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
            optimizer.step()
            psnr = -10 * (errors.detach() / 4).log10().mean().item()
            logged = run.advance({"pyramid": pyramid.item(), "kl": kl.item(), "psnr": psnr})
            if logged:
                text = f"step {run.step} L1 {logged['pyramid']:.4f} {logged['psnr']:.2f} dB {len(pool.renders)} renders"
                bars.update(bar, completed=run.progress, description=text)
    run.save()


def disturbed(latents: torch.Tensor, generator: np.random.Generator, settings: dict) -> torch.Tensor:
    """Latents as a denoiser might give them, in half of the steps: details too small by any factor, and noise on them."""
    core, details = latents.split([settings["core_latents"], latents.shape[1] - settings["core_latents"]], 1)
    if generator.random() < 0.5:
        kept, noise = generator.random(2)
        deviation = noise * settings["detail_noise"] * settings["detail_deviation"]
        details = kept * details + deviation * torch.randn_like(details)
    return torch.cat([core, details], 1)


def pyramid_distance(one: torch.Tensor, other: torch.Tensor, levels: int) -> torch.Tensor:
    """L1 distance of Laplacian pyramids, mean within a level, summed over levels (Bojanowski et al. 2018, Lap1)."""
    difference, total = one - other, one.new_zeros(())
    for _ in range(levels - 1):
        smaller = functional.avg_pool2d(difference, 2)
        larger = functional.interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False)
        total, difference = total + (difference - larger).abs().mean(), smaller
    return total + difference.abs().mean()


@torch.no_grad()
def reconstruct(autoencoder: AutoencoderKL, pictures: list[np.ndarray]) -> np.ndarray:
    """uint8 pictures through encoder (mean) and decoder."""
    parts = []
    for start in range(0, len(pictures), 16):
        decoded = autoencoder.decode(
            autoencoder.encode(to_tensor(np.stack(pictures[start : start + 16]))).latent_dist.mean
        )
        parts.append(decoded.sample.add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def write_check(autoencoder: AutoencoderKL, pool: Pool, folder: Path, per_kind: int = 64) -> None:
    """PSNR on pictures that were never trained on, and a sheet of originals above their reconstructions."""
    rows, figures = [], {"renders": len(pool.renders), "photos": len(pool.photos)}
    for kind, pictures in (("photo", pool.held_out_photos), ("render", pool.held_out_renders)):
        if not pictures:
            continue
        chosen = pictures[:: max(1, len(pictures) // per_kind)][:per_kind]
        decoded = reconstruct(autoencoder, chosen)
        errors = np.square((np.stack(chosen).astype(float) - decoded) / 255).mean(axis=(1, 2, 3))
        figures[f"psnr_{kind}"] = round(float(np.mean(-10 * np.log10(errors))), 2)
        step = max(1, len(chosen) // 10)
        rows += [chosen[::step][:10], list(decoded[::step][:10])]
    (folder / "report.json").write_text(json.dumps(figures, indent=1))
    write_sheet(folder / "sheet.png", rows)
    print(figures, folder / "sheet.png", flush=True)


@torch.no_grad()
def encoded(autoencoder: AutoencoderKL, pictures: list[np.ndarray]) -> torch.Tensor:
    """(places, channels): the means of the latents of all pictures."""
    parts = [autoencoder.encode(to_tensor(np.stack(pictures[i : i + 32]))).latent_dist.mean
             for i in range(0, len(pictures), 32)]  # fmt: skip
    return torch.cat(parts).movedim(1, -1).flatten(0, 2)


@torch.no_grad()
def standardise(autoencoder: AutoencoderKL, latents: torch.Tensor) -> None:
    """Moves mean and deviation of every channel into the quantisation convolutions."""
    deviation, mean = torch.std_mean(latents, dim=0)
    quant, post, channels = autoencoder.quant_conv, autoencoder.post_quant_conv, len(mean)
    post.bias += torch.einsum("oc,c->o", post.weight[:, :, 0, 0], mean)
    post.weight *= deviation[None, :, None, None]
    quant.weight[:channels] /= deviation[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / deviation
    quant.bias[channels:] -= 2 * deviation.log()


if __name__ == "__main__":
    main()
