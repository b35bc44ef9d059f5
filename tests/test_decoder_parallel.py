"""Tensor parallelism: the ranks together compute what one decoder does, and each has the all-reduce in its graph."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.fx import GraphModule
from torch.testing._internal.distributed.fake_pg import FakeStore

from passes import PrunePrefixCache
from passes.errors import DeadkvError
from tests.support.prunes import check_prune
from tracing.backends.hlo.execute import execute
from tracing.capture import FRONTENDS, capture
from tracing.decoder import PRESETS, Decoder, DecoderConfig, Variant, build_decoder, random_caches, random_inputs
from tracing.decoder.parallel import GROUP, rank_config
from tracing.decoder.shards import load_shard
from tracing.decoder.weights import random_weights
from tracing.graph import document, text

WIDE = dataclasses.replace(PRESETS["tiny"], q_heads=16, kv_heads=4)
every_frontend = pytest.mark.parametrize("frontend", FRONTENDS)
two_and_eight = pytest.mark.parametrize("ranks", [2, 8])


def make(ranks: int = 1, *, config: DecoderConfig = WIDE, device: str = "cpu", **flags: bool) -> Decoder:
    decoder = build_decoder(config, Variant(tensor_parallel=ranks, **flags), batch=2, bucket=64, device=device)
    if device == "cpu":
        random_weights(decoder, seed=0)
        random_caches(decoder, seed=1)
    return decoder


def captured(decoder: Decoder, frontend: str) -> GraphModule:
    return capture(decoder, decoder.example_inputs(), frontend=frontend, aliases=decoder.aliases())


@cache
def rank_graph(ranks: int, frontend: str) -> GraphModule:
    """Of a decoder without values; tests only read it."""
    return captured(make(ranks, device="meta"), frontend)


class Sum:
    """Stands in for the all-reduce of ranks that run as threads of this process."""

    def __init__(self, ranks: int) -> None:
        self.partial: dict[int, Tensor] = {}
        self.barrier = threading.Barrier(ranks, timeout=60)

    def member(self, rank: int) -> Callable[[Tensor], Tensor]:
        def reduce(partial: Tensor) -> Tensor:
            self.partial[rank] = partial
            self.barrier.wait()
            total = torch.stack([self.partial[rank] for rank in sorted(self.partial)]).sum(0)
            self.barrier.wait()
            return total

        return reduce


def run_ranks(decoders: list[Decoder], inputs: tuple[Tensor, ...]) -> list[list[Tensor]]:
    group, outputs = Sum(len(decoders)), {}

    def run(rank: int) -> None:
        with torch.no_grad():
            outputs[rank] = decoders[rank](*inputs)

    for rank, decoder in enumerate(decoders):
        for layer in decoder.layers:
            layer.reduce = group.member(rank)
    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(decoders))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [outputs[rank] for rank in range(len(decoders))]


@pytest.mark.parametrize("flags", [{}, {"block_tkg": False}, {"kernel_updates_cache": True}], ids=str)
@two_and_eight
def test_the_ranks_together_compute_what_one_decoder_does(ranks: int, flags: dict[str, bool]) -> None:
    """With 8 ranks and 4 KV heads, two ranks hold each KV head."""
    whole = make(**flags)
    decoders = [make(ranks, **flags) for _ in range(ranks)]
    for rank, decoder in enumerate(decoders):
        load_shard(decoder, whole, rank)
    inputs = random_inputs(whole, 2, padded=False)
    logits, *pools = whole(*inputs)
    for rank, (partial_logits, *shards) in enumerate(run_ranks(decoders, inputs)):
        torch.testing.assert_close(partial_logits, logits, rtol=1e-4, atol=1e-4)
        heads = max(1, 4 // ranks)
        first = rank * 4 // ranks
        for shard, pool in zip(shards, pools, strict=True):
            torch.testing.assert_close(shard, pool[:, :, first : first + heads], rtol=1e-4, atol=1e-4)


@two_and_eight
@every_frontend
def test_each_layer_reduces_twice(frontend: str, ranks: int) -> None:
    module = rank_graph(ranks, frontend)
    collectives = [node for node in module.graph.nodes if "all_reduce" in str(node.target)]
    assert [node.args[1:] for node in collectives] == [("sum", GROUP)] * 2 * WIDE.layers
    waits = [node for node in module.graph.nodes if "wait_tensor" in str(node.target)]
    assert len(waits) == len(collectives)


@two_and_eight
@every_frontend
def test_a_rank_loses_its_gathers_and_keeps_its_collectives(frontend: str, ranks: int) -> None:
    result = check_prune(rank_graph(ranks, frontend), None)
    assert {site.status for site in result.report.sites} == {"pruned"}
    assert result.report.summary["gathers_after"] == 0
    twin = captured(make(ranks, device="meta", source_edit=True), frontend)
    assert text(document(result.graph_module)) == text(document(twin))


def test_a_rank_of_llama_1b_saves_its_share() -> None:
    config = dataclasses.replace(PRESETS["llama-3.2-1b"], layers=2)
    reports = []
    for ranks in (1, 2, 8):
        decoder = build_decoder(config, Variant(tensor_parallel=ranks), batch=4, bucket=1024)
        assert decoder.kv_mgr.past_key_values[0].shape[2] == 8 // ranks
        reports.append(PrunePrefixCache()(captured(decoder, "make_fx")).report)
    one, two, eight = (report.summary["bytes_before"] for report in reports)
    assert one == 2 * two == 8 * eight > 0


@pytest.fixture
def fake_group() -> Iterator[None]:
    """A process group of two whose collectives do nothing, under the name that the decoder uses."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    torch._C._distributed_c10d._register_process_group(GROUP, dist.group.WORLD)
    yield
    torch._C._distributed_c10d._unregister_process_group(GROUP)
    dist.destroy_process_group()


@every_frontend
@pytest.mark.usefixtures("fake_group")
def test_a_rank_and_its_graph_run_in_a_process_group(frontend: str) -> None:
    decoder = make(2)
    inputs = random_inputs(decoder, 2, padded=False)
    for actual, expected in zip(captured(decoder, frontend)(*inputs), decoder(*inputs), strict=True):
        torch.testing.assert_close(actual, expected)


def test_the_hlo_backend_names_the_collective_it_cannot_lower() -> None:
    decoder = make(2)
    with pytest.raises(DeadkvError, match=r"^_c10d_functional\.all_reduce\.default \(node all_reduce\) has no HLO"):
        execute(captured(decoder, "make_fx"), random_inputs(decoder, 2, padded=False))


@pytest.mark.parametrize(
    ("sizes", "ranks", "message"),
    [
        ({}, 8, "tensor parallelism: q_heads 4 cannot be split over 8 ranks"),
        ({"q_heads": 6, "kv_heads": 3}, 2, "tensor parallelism: kv_heads 3 and 2 ranks do not divide each other"),
        ({"intermediate_size": 9}, 2, "tensor parallelism: intermediate_size 9 cannot be split over 2 ranks"),
    ],
)
def test_a_decoder_that_cannot_be_split_is_refused(sizes: dict[str, int], ranks: int, message: str) -> None:
    with pytest.raises(DeadkvError, match=f"^{message}$"):
        rank_config(dataclasses.replace(PRESETS["tiny"], **sizes), ranks)


def test_a_rank_that_there_is_not_is_refused() -> None:
    with pytest.raises(DeadkvError, match=r"^rank 2 of 2: give 0 to 1$"):
        load_shard(make(2), make(), 2)
    with pytest.raises(DeadkvError, match="tensor_parallel must be at least 1, not 0"):
        Variant(tensor_parallel=0)
