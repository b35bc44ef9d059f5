"""What happens to a dead gather on the way to HLO. The documentation claims exactly what is asserted here."""

import pytest
import torch

from passes import PrunePrefixCache
from tests.test_hlo_attention import captured, lower_pair, opcodes, tiny
from tracing.backends.base import BackendRequest
from tracing.backends.hlo.artefacts import lower_request
from tracing.backends.hlo.lower import Lowered
from tracing.capture import capture

# Each layer's K and V site is one gather; 2 layers.
SITES = 4


def gathers(lowered: Lowered) -> tuple[int, int]:
    """Gathers in the StableHLO text and in the binary module."""
    return lowered.stablehlo.count('"stablehlo.gather"('), opcodes(lowered)["gather"]


@pytest.mark.parametrize("target", ["inf2", "trn2"])
@pytest.mark.parametrize("variant", ["base", "cache-update"])
def test_a_chain_without_users_is_in_the_stablehlo_but_not_in_the_binary(variant: str, target: str) -> None:
    decoder = tiny(variant)
    before = captured(decoder)
    pair = lower_pair(before, PrunePrefixCache()(before).graph_module, decoder, target)
    before_text, before_binary = gathers(pair["before"])
    after_text, after_binary = gathers(pair["after"])
    assert before_text - after_text == SITES
    assert before_binary == after_binary == after_text
    assert pair["before"].hlo == pair["after"].hlo


def test_pruned_base_and_hand_edited_source_are_the_same_module() -> None:
    base, edited = tiny("base"), tiny("hand-edited")
    pruned = PrunePrefixCache()(captured(base)).graph_module
    source = captured(edited)
    for target in ("inf2", "trn2"):
        ours, theirs = lower_pair(pruned, pruned, base, target), lower_pair(source, source, edited, target)
        assert ours["after"].hlo == theirs["after"].hlo
        assert ours["after"].stablehlo == theirs["after"].stablehlo


class OpaqueOperand(torch.nn.Module):
    """Hands the gathered prefix to the attention op, which in block mode does not read it."""

    def __init__(self) -> None:
        super().__init__()
        decoder = tiny("base")
        layer = decoder.layers[0]
        self.W_qkv, self.W_out = layer.self_attn.W_qkv, layer.self_attn.W_out
        self.gamma = layer.input_layernorm.weight
        self.K_cache, self.V_cache = decoder.kv_mgr.past_key_values[:2]

    def forward(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, table: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        k_prior, v_prior = (self._prefix(cache, table) for cache in (self.K_cache, self.V_cache))
        out: torch.Tensor = torch.ops.deadkv.attention_block_tkg(
            x, True, 1e-5, self.gamma, self.W_qkv, None, False, 1e-5, None, None, cos, sin, table,
            self.K_cache, self.V_cache, mask, False, None, self.W_out, None, None, k_prior, v_prior,
        )[0]  # fmt: skip
        return out

    def _prefix(self, cache: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        blocks = cache.index_select(0, table.reshape(-1))
        return blocks.reshape(table.shape[0], -1, *cache.shape[2:]).permute(0, 2, 1, 3)


def _opaque_pair(target: str, tmp_path: object) -> dict[str, Lowered]:
    model = OpaqueOperand()
    inputs = (
        torch.zeros(2, 1, 64),
        torch.zeros(8, 2, 1),
        torch.zeros(8, 2, 1),
        torch.zeros(2, 4, dtype=torch.int32),
        torch.zeros(32, 2, 4, 1, dtype=torch.bool),
    )
    before = capture(model, inputs)
    after = PrunePrefixCache(policy="liveness")(before).graph_module
    return lower_request(BackendRequest(before, after, inputs, (), target, tmp_path))


def test_an_unread_operand_of_the_kernel_keeps_its_gather_in_both_forms(tmp_path: object) -> None:
    pair = _opaque_pair("trn2", tmp_path)
    assert gathers(pair["before"]) == (2, 2)
    assert gathers(pair["after"]) == (0, 0)
    assert pair["before"].hlo != pair["after"].hlo


def test_an_unread_operand_of_the_inlined_reference_is_a_chain_without_users(tmp_path: object) -> None:
    pair = _opaque_pair("inf2", tmp_path)
    (before_text, before_binary), (after_text, after_binary) = gathers(pair["before"]), gathers(pair["after"])
    assert before_text - after_text == 2
    assert before_binary == after_binary
    assert pair["before"].hlo == pair["after"].hlo


@pytest.mark.parametrize(
    ("variant", "sites", "in_binary"),
    [("boundary-markers", SITES, SITES), ("regional", SITES, 0), ("scan", 2, 2)],
)
def test_what_a_nested_site_leaves_in_the_binary(variant: str, sites: int, in_binary: int) -> None:
    """A dead lane of a barrier and a dead input of a loop's body stay; a region is written in place of its call."""
    decoder = tiny(variant)
    before = captured(decoder)
    pair = lower_pair(before, PrunePrefixCache()(before).graph_module, decoder, "inf2")
    before_text, before_binary = gathers(pair["before"])
    after_text, after_binary = gathers(pair["after"])
    assert before_text - after_text == sites
    assert before_binary - after_binary == in_binary
    assert (pair["before"].hlo == pair["after"].hlo) == (in_binary == 0)
