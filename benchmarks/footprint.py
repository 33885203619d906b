"""Benchmark 8: memory and disk of 1000 categories in one engine, beside a pipeline of its own for each.

Every figure of memory is the resident memory of a child process, so that the interpreter and its libraries count on both
sides. Our process takes in every category as the engine does for a request: it reads the file, encodes the prompt, finds a
place in the slabs; every hundredth is sampled too. The peer's process holds a few pipelines, each with its adapter
multiplied in; what 1000 take is extrapolated from what each adds, and said to be.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import torch

from benchmarks.bases import bundled
from benchmarks.harness import Row, Setting
from benchmarks.serving import Catalog, Inputs, equal, held, loaded_base, plain_pipeline
from packshot.diffusion.adapters import AdapterBank
from packshot.diffusion.resident import EngineLimits, Resident
from packshot.diffusion.samples import predict
from packshot.diffusion.tickets import PictureRequest, Ticket
from packshot.domain.generation import SamplingSettings

NUM_CATEGORIES = 1000
NUM_PIPELINES = 8
TIERS_MIB = (1024, 64)  # the default of PACKSHOT_ADAPTER_CACHE_MIB, and little
_MIB = 2**20


def measure(setting: Setting) -> list[Row]:
    """Memory and disk of both, and the ratios; ``quick`` has a tenth of the categories."""
    torch.set_num_threads(setting.threads)
    count, pipelines = (NUM_CATEGORIES // 10, 2) if setting.quick else (NUM_CATEGORIES, NUM_PIPELINES)
    rows = [_equality()]
    peer = _process("peer", pipelines, setting.threads)
    own = (peer["all"] - peer["first"]) / (pipelines - 1)
    extrapolated = peer["first"] + (count - 1) * own
    rows += [
        Row(label=f"peer: {pipelines} pipelines, resident memory", value=peer["all"] / _MIB, unit="MiB"),
        Row(label="peer: what one more pipeline adds", value=own / _MIB, unit="MiB"),
        Row(
            label="peer: weights of one pipeline in 32-bit floats (computed bound)",
            value=peer["weights"] / _MIB,
            unit="MiB",
        ),
    ]
    measured = {tier: _process("ours", count, setting.threads, tier) for tier in TIERS_MIB}
    for tier, ours in measured.items():
        rows += [
            Row(
                label=f"{count} categories, resident memory, {tier} MiB for parsed fine-tunes; peer extrapolated from {pipelines}",
                value=ours["all"] / _MIB,
                unit="MiB",
                peer_value=extrapolated / _MIB,
                ratio=extrapolated / ours["all"],
                at_least=100.0,
            ),
            Row(label=f"of these with the base alone, {tier} MiB", value=ours["first"] / _MIB, unit="MiB"),
            Row(
                label=f"what the categories add to the base, {tier} MiB; peer extrapolated, beyond its first pipeline",
                value=(ours["all"] - ours["first"]) / _MIB,
                unit="MiB",
                peer_value=(extrapolated - peer["first"]) / _MIB,
                ratio=(extrapolated - peer["first"]) / (ours["all"] - ours["first"]),
            ),
        ]
    disk = next(iter(measured.values()))["disk"]
    rows.append(
        Row(
            label=f"{count} categories on disk with the base; peer extrapolated from one pipeline's files",
            value=disk / _MIB,
            unit="MiB",
            peer_value=count * peer["disk"] / _MIB,
            ratio=count * peer["disk"] / disk,
            at_least=100.0,
        )
    )
    return rows


def _equality() -> Row:
    with bundled() as bench, loaded_base(bench) as base:
        catalog = Catalog(base, bench.base)
        with torch.inference_mode():
            category, step = catalog.category(0), Inputs.random(base, 2)
            pipeline = plain_pipeline(bench.folder)
            pipeline.load_lora_weights(category.copy())
            pipeline.fuse_lora()
            bank = AdapterBank(base.denoiser, num_ranks=8)
            with held(bank, category) as slot, bank.rows([slot] * 2):
                return equal("a pipeline of its own", step.through(base.denoiser), step.through(pipeline.unet))


def _process(name: str, *arguments: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.footprint", name, *(str(each) for each in arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def resident() -> int:
    """Bytes of this process that are in memory."""
    return psutil.Process().memory_info().rss


def ours(count: int, tier_mib: int) -> dict[str, float]:
    """All categories taken in by one engine's resident memory."""
    with bundled() as bench, TemporaryDirectory() as folder, loaded_base(bench) as base, torch.inference_mode():
        catalog = Catalog(base, bench.base)
        first = resident()
        paths = [Path(folder) / f"{number}.safetensors" for number in range(count)]
        of_base = sum(each.stat().st_size for each in bench.folder.rglob("*") if each.is_file())
        standing = Resident(base, EngineLimits(adapter_cache_mib=tier_mib))
        for number, path in enumerate(paths):
            tuned = catalog.tuned(number)
            path.write_bytes(tuned.read())
            prompt = f"a {tuned.record.trained_phrase} on a wooden table"
            request = PictureRequest(
                base=bench.base, fine_tune=tuned, prompts=(prompt,), sampling=SamplingSettings(inference_steps=4)
            )
            prepared = standing.prepare(Ticket(request), base)
            place = standing.place(prepared.fine_tunes, base)
            assert place is not None
            if number % 100 == 0:
                predict([prepared.sample(0, place)], standing.bank)
            standing.leave(place)
        disk = of_base + sum(path.stat().st_size for path in paths)
        return {"first": first, "all": resident(), "disk": disk}


def peer(count: int) -> dict[str, float]:
    """So many pipelines, each with an adapter of its own multiplied in."""
    with bundled() as bench:
        with loaded_base(bench) as base:
            catalog = Catalog(base, bench.base)
            published = [catalog.category(number).published for number in range(count)]
        bench.bases._loaded = None  # the peer has no engine beside it
        del base, catalog
        pipelines = []
        first = 0
        for each in published:
            pipeline = plain_pipeline(bench.folder)
            pipeline.load_lora_weights(each)
            pipeline.fuse_lora()
            pipeline.unload_lora_weights()
            with torch.inference_mode():
                pipeline("an apple", num_inference_steps=2)
            pipelines.append(pipeline)
            first = first or resident()
        parts = (pipelines[0].unet, pipelines[0].vae, pipelines[0].text_encoder)
        weights = sum(parameter.nbytes for part in parts for parameter in part.parameters())
        disk = sum(each.stat().st_size for each in bench.folder.rglob("*") if each.is_file())
        return {"first": first, "all": resident(), "weights": weights, "disk": disk}


def main() -> None:
    """One of the processes."""
    name, count, threads, *others = sys.argv[1:]
    torch.set_num_threads(int(threads))
    print(json.dumps(peer(int(count)) if name == "peer" else ours(int(count), int(others[0]))))


if __name__ == "__main__":
    main()
