"""Fused draft and target: one graph that does what the two decoders do in turn."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

from passes.errors import DeadkvError
from tests.support.prunes import after_plain_dce, check_prune
from tracing.backends.hlo.execute import execute
from tracing.capture import FRONTENDS, capture
from tracing.decoder import PRESETS, VARIANTS, Decoder, Variant, build_decoder, random_caches, random_inputs
from tracing.decoder.fused import FusedDecoder
from tracing.decoder.weights import random_weights
from tracing.graph import document, text

FUSED = VARIANTS["fused-draft-target"]
TOKENS = FUSED.active_tokens
CONFIG = dataclasses.replace(PRESETS["tiny"], layers=4)

every_frontend = pytest.mark.parametrize("frontend", FRONTENDS)


def make(variant: Variant = FUSED) -> FusedDecoder:
    decoder = build_decoder(CONFIG, variant, batch=2, bucket=64, device="cpu")
    assert isinstance(decoder, FusedDecoder)
    random_weights(decoder, seed=0)
    random_caches(decoder, seed=1)
    return decoder


def captured(decoder: Decoder, frontend: str) -> GraphModule:
    return capture(decoder, decoder.example_inputs(), frontend=frontend, aliases=decoder.aliases())


@cache
def graph_of(frontend: str) -> tuple[FusedDecoder, GraphModule]:
    """A decoder and its graph, which are shared: `ready` gives the pools their first values again."""
    fused = make()
    return fused, captured(fused, frontend)


def ready(frontend: str) -> tuple[FusedDecoder, GraphModule]:
    fused, module = graph_of(frontend)
    random_caches(fused, seed=1)
    return fused, module


def alone(fused: Decoder, variant: str) -> Decoder:
    """A decoder by itself with the weights and pools of one of the two."""
    decoder = build_decoder(fused.config, variant, batch=2, bucket=64, device="cpu")
    state = fused.state_dict()
    decoder.load_state_dict({name: state[name] for name in decoder.state_dict()})
    return decoder


def greedy(decoder: Decoder, inputs: dict[str, Tensor], tokens: list[Tensor | None]) -> list[Tensor]:
    """The choices of a decoder of one token a step; None for a token is its own last choice."""
    given, mask, choices = inputs["position_ids"], inputs["attention_mask"].clone(), []
    for step, token in enumerate(tokens):
        position = given + step
        fed = choices[-1] if token is None else token
        slot = inputs["slot_mapping"][:, step : step + 1]
        logits, *pools = decoder(fed, mask, position, slot, inputs["active_block_table"])
        for pool, new in zip(decoder.aliases(), pools, strict=True):
            pool.copy_(new)
        mask[torch.arange(2), position[:, 0]] = 1
        choices.append(logits.argmax(-1).to(torch.int32))
    return choices


def test_the_draft_proposes_and_the_target_checks() -> None:
    """Against the functional base variant of both decoders, one token at a time."""
    fused = make()
    draft, target = alone(fused.draft, "base"), alone(fused, "base")
    assert (draft.config.layers, target.config.layers) == (1, 4)
    inputs = dict(zip(fused.input_names, random_inputs(fused, 2, padded=False), strict=True))
    candidates, checked, *pools = fused(**inputs)
    given = inputs["input_ids"]
    proposals = greedy(draft, inputs, [given] + [None] * (TOKENS - 1))
    assert torch.equal(candidates, torch.cat([given, *proposals[:-1]], 1))
    choices = greedy(target, inputs, list(candidates.split(1, dim=1)))
    assert torch.equal(checked, torch.cat(choices, 1))
    for pool, wanted in zip(pools, [*draft.aliases(), *target.aliases()], strict=True):
        torch.testing.assert_close(pool, wanted, rtol=1e-4, atol=1e-4)


def test_idle_rows_write_nothing() -> None:
    fused = make()
    inputs = dict(zip(fused.input_names, random_inputs(fused, 2, padded=False), strict=True))
    before = [pool.clone() for pool in fused.aliases()]
    inputs["slot_mapping"][1] = -1
    _, _, *pools = fused(**inputs)
    written = sorted(inputs["slot_mapping"][0].tolist())
    for old, new in zip(before, pools, strict=True):
        assert (new != old).flatten(2).any(dim=2).flatten().nonzero().flatten().tolist() == written


def test_pools_are_updated_by_the_outputs_after_the_tokens() -> None:
    fused = make()
    names = {id(parameter): name for name, parameter in fused.named_parameters()}
    aliases = {names[id(pool)]: index for pool, index in fused.aliases().items()}
    draft = {f"draft.kv_mgr.past_key_values.{i}": 2 + i for i in range(2)}
    assert aliases == draft | {f"kv_mgr.past_key_values.{i}": 4 + i for i in range(8)}
    outputs = fused(*random_inputs(fused, 2, padded=False))
    assert all(outputs[index] is pool for pool, index in fused.aliases().items())


@every_frontend
def test_the_captured_graph_computes_what_the_decoder_does(frontend: str) -> None:
    fused, module = ready(frontend)
    inputs = random_inputs(fused, 2, padded=False)
    wanted = [output.clone() for output in fused(*inputs)]
    random_caches(fused, seed=1)
    for ours, expected in zip(module(*inputs), wanted, strict=True):
        assert torch.equal(ours, expected)


def test_the_hlo_computes_what_torch_does() -> None:
    fused, module = ready("make_fx")
    inputs = random_inputs(fused, 2, padded=False)
    outputs = execute(module, inputs).outputs
    for ours, expected in zip(outputs, fused(*inputs), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@every_frontend
def test_the_gathers_of_both_go_and_the_rest_is_the_edited_source(frontend: str) -> None:
    fused, module = ready(frontend)
    result = check_prune(module, random_inputs(fused, 2, padded=False))
    # The draft gathers its prefix for each of its steps, the target once.
    assert len(result.report.sites) == 2 * (TOKENS * fused.draft.config.layers + fused.config.layers)
    assert {site.status for site in result.report.sites} == {"pruned"}
    assert {site.cache for site in result.report.sites} == {
        name for name, _ in fused.named_parameters() if "past_key_values" in name
    }
    assert result.report.summary["gathers_after"] == 0
    twin = captured(make(dataclasses.replace(FUSED, source_edit=True)), frontend)
    assert text(document(result.graph_module)) == text(document(twin))


def test_plain_dead_code_elimination_takes_the_unchecked_proposal_too() -> None:
    """The last step of the draft is there for its cache entry: its logits are dead, and the pass leaves them alone."""
    _, module = ready("make_fx")
    pruned = check_prune(module, None).graph_module
    heads = [sum("lm_head" in str(n.target) for n in m.graph.nodes) for m in (module, pruned, after_plain_dce(module))]
    assert heads == [TOKENS + 1, TOKENS + 1, TOKENS]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"active_tokens": 1, "kernel_updates_cache": True}, "fused_draft needs speculation"),
        ({"active_tokens": 4}, "fused_draft needs kernel_updates_cache"),
        ({"active_tokens": 4, "kernel_updates_cache": True, "seq_ids_mask": True}, "fused_draft excludes seq_ids_mask"),
    ],
)
def test_flags_that_a_fused_decoder_cannot_have(flags: dict[str, object], message: str) -> None:
    with pytest.raises(DeadkvError, match=f"^model variant: {message}$"):
        Variant(fused_draft=True, **flags)
