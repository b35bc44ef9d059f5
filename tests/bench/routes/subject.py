"""The decoder of a point, with weights and inputs, and its graphs: before, after, and of the hand-edited source."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.fx import GraphModule

from passes import PrunePrefixCache, verify_prune
from passes.report import PRUNED
from tests.bench.routes.points import VARIANTS, Point
from tracing.capture import capture
from tracing.decoder import VARIANTS as DECODERS
from tracing.decoder import Decoder, build_decoder
from tracing.graph import document
from tracing.graph.diff import diff

MODEL = "llama-3.2-1b"
DTYPE = torch.float32
"""Which torch and XLA both compute in on every CPU: XLA:CPU would convert bfloat16 weights in every step."""


@dataclass(frozen=True)
class Subject:
    """What is run at a point.

    Attributes:
        decoder: holds the parameters that all graphs share.
        inputs: of one step.
        graphs: "before", "after" and "edited", the graph of the source that skips the materialization.
        predicted_bytes: bytes a step that the report says pruning saves.
        same_as_edited: the pruned graph is the edited one, node for node.
    """

    decoder: Decoder
    inputs: tuple[Tensor, ...]
    graphs: Mapping[str, GraphModule]
    predicted_bytes: int
    same_as_edited: bool


def build(point: Point, device: str = "cpu") -> Subject:
    """The subject of a point; weights and caches are random."""
    variant = DECODERS[VARIANTS[point.case]]
    sized = partial(build_decoder, MODEL, layers=point.layers, batch=point.batch, bucket=point.bucket, dtype=DTYPE)
    decoder, edited = sized(variant, device=device), sized(dataclasses.replace(variant, source_edit=True))
    fill_parameters(decoder)
    share_tensors(decoder, edited)
    before, twin = (capture(d, d.example_inputs(), aliases=d.aliases()) for d in (decoder, edited))
    result = PrunePrefixCache()(before)
    after, report = result.graph_module, result.report
    verify_prune(before, after, report)
    graphs = {"before": before, "after": after, "edited": twin}
    saved = sum(site.bytes or 0 for site in report.sites if site.status == PRUNED)
    inputs = tuple(tensor.to(device) for tensor in step_inputs(decoder, point.fill))
    return Subject(decoder, inputs, graphs, saved, diff(document(after), document(twin)).same)


def share_tensors(source: Decoder, other: Decoder) -> None:
    """Makes another decoder of the same sizes hold the parameters and buffers of `source`."""
    other.load_state_dict(source.state_dict(), assign=True)
    for name, constant in source.named_buffers():
        owner, _, attribute = name.rpartition(".")
        setattr(other.get_submodule(owner), attribute, constant)


def fill_parameters(decoder: Decoder) -> None:
    """Random weights and caches: a million normal numbers, repeated, since drawing all of them takes longer."""
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).to(decoder.norm.weight.device)
    for parameter in decoder.parameters():
        flat = parameter.view(-1)
        scale, shift = (0.1, 1.0) if parameter.ndim == 1 else (decoder.config.hidden_size**-0.5, 0.0)
        for start in range(0, len(flat), len(noise)):
            part = flat[start : start + len(noise)]
            torch.add(shift, noise[: len(part)], alpha=scale, out=part)


def step_inputs(decoder: Decoder, fill: int) -> tuple[Tensor, ...]:
    """Inputs of a step after which `fill` percent of each sequence's bucket is cached.

    Blocks of a sequence lie in random order. Table entries past the last one name block 0, since torch cannot gather by
    the -1 of production; the mask hides them, and the kernel reads none of them.
    """
    batch, bucket, block_size = decoder.batch, decoder.bucket, decoder.config.block_size
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randperm(batch * bucket // block_size, generator=generator).reshape(batch, -1)
    length = bucket * fill // 100
    columns, tokens = torch.arange(blocks.shape[1]), torch.arange(bucket)
    table = blocks.where(columns < length // block_size, 0)
    last = length - 1
    values = {
        "input_ids": torch.randint(decoder.config.vocab_size, (batch, 1), generator=generator),
        "attention_mask": (tokens < last).expand(batch, -1),
        "position_ids": torch.full((batch, 1), last),
        "slot_mapping": table[:, last // block_size, None] * block_size + last % block_size,
        "active_block_table": table,
    }
    return tuple(values[name].to(torch.int32).contiguous() for name in decoder.input_names)
