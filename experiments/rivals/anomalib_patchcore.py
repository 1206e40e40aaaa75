"""anomalib's PatchCore on the images, the supports and the backbone that bayfed names.

Runs inside the environment of `make rivals`; anomalib itself is imported where it is used, so
that the file can be checked where anomalib is not installed.

    .venv-rivals/bin/python -m experiments.rivals.anomalib_patchcore JOB.json SCORES.json
    .venv-rivals/bin/python -m experiments.rivals.anomalib_patchcore JOB.json --serve

The first writes the image scores of every draw, through the coreset and with the whole memory.
The second fits the first support of the first site, then scores the first query once for each
line that it reads, so that another process can time it in turn with others.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms.v2 import Compose, Normalize, Resize

from experiments.rivals.job import Job, Network, Site, read

CHUNK = 16
"""Images scored at once."""
KINDS = ("coreset", "whole")
"""Memories that are scored with."""


class Remembering(nn.Module):
    """An extractor that sees the same images once, however many memories they are held against."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor
        self._seen: Tensor | None = None
        self._maps: dict[int, Tensor] = {}

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Return the maps of ``images``."""
        if self._seen is not images:
            self._seen, self._maps = images, self.extractor(images)
        return dict(self._maps)


def build(job: Job) -> Any:
    """Return anomalib's model with the backbone of ``job``."""
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    network = job.network
    model = PatchcoreModel(
        layers=network.stages, backbone=network.name, pre_trained=False,
        num_neighbors=job.neighbours,
    )  # fmt: skip
    # anomalib has no way to hand arguments (such as the padding) or a local file to timm.
    model.feature_extractor.feature_extractor = backbone(network)
    return model.eval()


def backbone(network: Network) -> nn.Module:
    """Return the timm model with its weights."""
    built: nn.Module = timm.create_model(
        network.name,
        pretrained=False,
        features_only=True,
        feature_cls="getter",  # keeps the names of the file
        out_indices=network.stages,
        **network.create,
    )
    if network.weights:
        inner, found = built.get_submodule("model"), load_file(network.weights)
        inner.load_state_dict({name: found[name] for name in inner.state_dict()})
    return built.eval()


def images(paths: list[str], network: Network) -> Tensor:
    """Read pictures as anomalib does: resized without a crop, then normalised."""
    from anomalib.data.utils import read_image

    size = (network.size, network.size)
    prepare = Compose([Resize(size, antialias=True), Normalize(network.mean, network.std)])
    return torch.stack([prepare(read_image(path, as_tensor=True)) for path in paths])


def memories(model: Any, job: Job, site: Site, draw: int) -> tuple[Tensor, Tensor]:
    """Return the coreset of a support, and all of its patches."""
    torch.manual_seed(job.seed + draw)
    np.random.seed(job.seed + draw)  # noqa: NPY002 (scikit-learn's projection in anomalib)
    model.train()
    model(images(site.supports[draw], job.network))
    whole = torch.vstack(model.embedding_store)
    if job.coreset < 1:
        model.subsample_embedding(job.coreset)
    else:
        model.memory_bank, model.embedding_store = whole, []
    model.eval()
    return model.memory_bank, whole


@torch.no_grad()
def score(model: Any, job: Job, site: Site) -> dict[str, Any]:
    """Return the scores of a site's queries, a list for each draw and each kind of memory."""
    banks = [memories(model, job, site, draw) for draw in range(len(site.supports))]
    found: dict[str, list[list[float]]] = {kind: [[] for _ in banks] for kind in KINDS}
    for start in range(0, len(site.queries), CHUNK):
        chunk = images(site.queries[start : start + CHUNK], job.network)
        for draw, bank in enumerate(banks):
            for kind, memory in zip(found, bank, strict=True):
                model.memory_bank = memory
                found[kind][draw] += model(chunk).pred_score.tolist()
    return {"name": site.name, **found}


def peak(call: Any) -> int:
    """Return the most bytes of tensors that a call holds beyond those before it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        call()
    totals = [0]
    for event in run.profiler.kineto_results.events():
        if event.name() == "[memory]":
            totals.append(totals[-1] + event.nbytes())
    return max(totals)


@torch.no_grad()
def serve(job: Job) -> None:
    """Fit, tell the size of the memory, then score one image for each line of the input."""
    model, site = build(job), job.sites[0]
    memory, _ = memories(model, job, site, 0)
    picture = images(site.queries[:1], job.network)
    model(picture)
    say(
        bytes=memory.numel() * memory.element_size(), peak=peak(lambda: model(picture)), **library()
    )
    for _ in sys.stdin:
        say(score=model(picture).pred_score.item())


def say(**words: Any) -> None:
    """Print a line of JSON."""
    print(json.dumps(words), flush=True)


def library() -> dict[str, str]:
    """Return whose PatchCore this is."""
    return {"library": f"anomalib {version('anomalib')}", "torch": torch.__version__}


def main(job_file: str, target: str) -> None:
    """Score a job, or serve it."""
    job = read(Path(job_file))
    torch.set_num_threads(job.threads)
    if target == "--serve":
        serve(job)
        return
    model = build(job)
    model.feature_extractor = Remembering(model.feature_extractor)
    sites = [score(model, job, site) for site in job.sites]
    Path(target).write_text(json.dumps({**library(), "sites": sites}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
