"""The decoder is a Llama and a Qwen3: transformers' tokens and logits, through a scattered, shared cache."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tracing.decoder import (
    PRESETS,
    VARIANTS,
    Decoder,
    DecoderConfig,
    RopeScaling,
    Variant,
    build_decoder,
    load_hf_state_dict,
    random_caches,
)
from tracing.decoder.rope import rotary_frequencies

BATCH, BUCKET, BLOCK, STEPS = 2, 64, 8, 32
SHARED = 2 * BLOCK
PROMPT_LENGTHS = (21, 23)
TOLERANCE = 1e-5

SIZES = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48}
HF_SIZES = SIZES | {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attn_implementation": "eager",
    "max_position_embeddings": 128,
}
OUR_SIZES = SIZES | {"layers": 2, "q_heads": 4, "kv_heads": 2, "dtype": torch.float32, "block_size": BLOCK}


def llama3() -> tuple[PreTrainedModel, DecoderConfig]:
    """Original context 40: of the four frequencies one is kept, one blended, and two are stretched."""
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 40,
    }
    theirs = LlamaConfig(
        **HF_SIZES,
        head_dim=8,
        rope_theta=100.0,
        rope_scaling=scaling,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )
    ours = DecoderConfig(
        **OUR_SIZES,
        head_dim=8,
        rope_theta=100.0,
        rope_scaling=RopeScaling(factor=8.0, original_max_positions=40),
        rms_norm_eps=1e-5,
        tied_embeddings=True,
    )
    return LlamaForCausalLM(theirs), ours


def llama2() -> tuple[PreTrainedModel, DecoderConfig]:
    theirs = LlamaConfig(**HF_SIZES, head_dim=8, rope_theta=10_000.0, rms_norm_eps=1e-6)
    ours = DecoderConfig(**OUR_SIZES, head_dim=8, rope_theta=10_000.0, rms_norm_eps=1e-6)
    return LlamaForCausalLM(theirs), ours


def qwen3() -> tuple[PreTrainedModel, DecoderConfig]:
    """Heads are wider than hidden_size / heads, as in the small Qwen3 models."""
    theirs = Qwen3Config(**HF_SIZES, head_dim=16, rope_theta=1_000_000.0, rms_norm_eps=1e-6)
    ours = DecoderConfig(**OUR_SIZES, head_dim=16, rope_theta=1_000_000.0, rms_norm_eps=1e-6, qk_norm=True)
    return Qwen3ForCausalLM(theirs), ours


def mistral() -> tuple[PreTrainedModel, DecoderConfig]:
    """Every layer sees a window."""
    theirs = MistralConfig(**HF_SIZES, head_dim=8, rope_theta=10_000.0, rms_norm_eps=1e-6, sliding_window=WINDOW)
    ours = DecoderConfig(**OUR_SIZES, head_dim=8, rope_theta=10_000.0, rms_norm_eps=1e-6)
    return MistralForCausalLM(theirs), ours


def qwen3_windowed() -> tuple[PreTrainedModel, DecoderConfig]:
    """Every other layer sees a window."""
    theirs = Qwen3Config(
        **HF_SIZES,
        head_dim=16,
        rope_theta=1_000_000.0,
        rms_norm_eps=1e-6,
        use_sliding_window=True,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"],
    )
    return Qwen3ForCausalLM(theirs), qwen3()[1]


WINDOW = 12
WINDOWS: dict[Callable[[], tuple[PreTrainedModel, DecoderConfig]], dict[str, int]] = {
    mistral: {"sliding_window": WINDOW},
    qwen3_windowed: {"sliding_window": WINDOW, "full_attention_every": 2},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small only lose time to a pool of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Reference:
    """What transformers generates greedily from each prompt: tokens with the prompt, and each new token's logits."""

    state_dict: dict[str, Tensor]
    config: DecoderConfig
    tokens: list[list[int]]
    logits: list[Tensor]
    window: dict[str, int]


@pytest.fixture(scope="module", params=[llama3, llama2, qwen3, mistral, qwen3_windowed], ids=lambda make: make.__name__)
def reference(request: pytest.FixtureRequest) -> Reference:
    torch.default_generator.manual_seed(7)
    model, config = request.param()
    generator = torch.Generator().manual_seed(11)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.1
        parameter.data.copy_(noise + 1 if parameter.ndim == 1 else noise)
    first = torch.randint(97, (PROMPT_LENGTHS[0],), generator=generator).tolist()
    suffix = torch.randint(97, (PROMPT_LENGTHS[1] - SHARED,), generator=generator).tolist()
    generated = [greedy(model.eval(), prompt) for prompt in (first, first[:SHARED] + suffix)]
    tokens, rows = [tokens for tokens, _ in generated], [rows for _, rows in generated]
    return Reference(model.state_dict(), config, tokens, rows, WINDOWS.get(request.param, {}))


@torch.no_grad()
def greedy(model: PreTrainedModel, prompt: list[int]) -> tuple[list[int], Tensor]:
    tokens, rows = list(prompt), []
    for _ in range(STEPS + 1):
        rows.append(model(torch.tensor([tokens]), use_cache=False).logits[0, -1])
        tokens.append(int(rows[-1].argmax()))
    return tokens, torch.stack(rows)


class Session:
    """Two sequences in one paged pool: random block order, the second one starting on the first one's blocks."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        order = torch.randperm(BATCH * BUCKET // BLOCK, generator=torch.Generator().manual_seed(3))
        first, second = order.reshape(BATCH, -1)
        self.table = torch.stack([first, torch.cat([first[: SHARED // BLOCK], second[SHARED // BLOCK :]])])
        self.pools: list[Tensor] | None = None

    def decoder(self, variant: str | Variant) -> Decoder:
        flags = VARIANTS[variant] if isinstance(variant, str) else variant
        windowed = dataclasses.replace(flags, **self.reference.window)
        decoder = build_decoder(self.reference.config, windowed, batch=BATCH, bucket=BUCKET, device="cpu")
        load_hf_state_dict(decoder, self.reference.state_dict)
        random_caches(decoder, seed=5)
        for pool, output in decoder.aliases().items():
            if self.pools is not None:
                pool.copy_(self.pools[output - 1])
        return decoder

    def run(self, decoder: Decoder, **inputs: Tensor) -> Tensor:
        """Run one step, write its outputs back into the pools and return the logits `[B, vocab]`."""
        logits, *caches = decoder(**{name: tensor.to(torch.int32) for name, tensor in inputs.items()})
        for pool, output in decoder.aliases().items():
            pool.copy_(caches[output - 1])
        self.pools = caches
        return logits[:, -1]

    def slots(self, positions: Tensor) -> Tensor:
        inside = positions.clamp(max=BUCKET - 1)
        return self.table.gather(1, inside // BLOCK) * BLOCK + inside % BLOCK

    def prefill(self, variant: str, row: int, context: int) -> Tensor:
        """Encode one row's prompt after its first `context` tokens; the other row is idle."""
        length = PROMPT_LENGTHS[row] - context
        ids = torch.zeros(BATCH, BUCKET, dtype=torch.int64)
        ids[row, :length] = torch.tensor(self.reference.tokens[row][context : context + length])
        queries, computed = torch.ones(BATCH, 1, dtype=torch.int64), torch.zeros(BATCH, 1, dtype=torch.int64)
        queries[row], computed[row] = length, context
        real = torch.arange(BUCKET).expand(BATCH, -1) < queries
        real[1 - row] = False
        positions = computed + torch.arange(BUCKET)
        cached = torch.arange(BUCKET) < computed
        table = self.table.where(torch.arange(BUCKET // BLOCK) * BLOCK < computed, 0)
        inputs = {
            "input_ids": ids,
            "attention_mask": cached if context else real,
            "position_ids": positions,
            "slot_mapping": self.slots(positions).where(real, -1),
            "active_block_table": table if context else torch.zeros(1),
            "num_queries": queries,
        }
        if context:
            inputs["computed_context_lens"] = computed
        return self.run(self.decoder(variant), **inputs)[row]

    def decode(self, decoder: Decoder, step: int, fill: str) -> Tensor:
        positions = torch.tensor(PROMPT_LENGTHS).unsqueeze(1) + step
        last = [tokens[length + step] for tokens, length in zip(self.reference.tokens, PROMPT_LENGTHS, strict=True)]
        used = torch.arange(BUCKET // BLOCK) <= positions // BLOCK
        filling = {"-1": torch.tensor(-1), "0": torch.tensor(0), "blocks": self.table.flip(0, 1)}[fill]
        return self.run(
            decoder,
            input_ids=torch.tensor(last).unsqueeze(1),
            attention_mask=torch.arange(BUCKET) < positions,
            position_ids=positions,
            slot_mapping=self.slots(positions),
            active_block_table=self.table.where(used, filling),
        )


def assert_same(ours: Tensor, reference: Reference, row: int, step: int) -> None:
    theirs = reference.logits[row][step]
    assert (ours - theirs).abs().max() < TOLERANCE
    assert int(ours.argmax()) == reference.tokens[row][PROMPT_LENGTHS[row] + step]


DECODES = {
    "hand-edited": ("hand-edited", "-1"),
    "base": ("base", "blocks"),
    "cache-update": ("cache-update", "blocks"),
    "cache-update hand-edited": (Variant(kernel_updates_cache=True, source_edit=True), "-1"),
    "no-block-tkg": ("no-block-tkg", "0"),
}


@pytest.mark.parametrize("variant, fill", DECODES.values(), ids=DECODES.keys())
def test_prefill_and_greedy_decode_match_transformers(reference: Reference, variant: str | Variant, fill: str) -> None:
    session = Session(reference)
    assert_same(session.prefill("cte", row=0, context=0), reference, row=0, step=0)
    assert_same(session.prefill("cte-prefix", row=1, context=SHARED), reference, row=1, step=0)
    decoder = session.decoder(variant)
    if decoder.variant.materializes_prefix and fill == "-1":
        fill = "blocks"  # the edited source still gathers for a windowed layer, and no gather takes a -1
    for step in range(STEPS):
        for row, logits in enumerate(session.decode(decoder, step, fill)):
            assert_same(logits, reference, row, step + 1)


def test_unpruned_base_cannot_gather_a_padded_table(reference: Reference) -> None:
    session = Session(reference)
    with pytest.raises(IndexError):
        session.decode(session.decoder("base"), 0, "-1")


@pytest.mark.parametrize("preset", PRESETS)
def test_rotary_frequencies_are_those_of_transformers(preset: str) -> None:
    ours = PRESETS[preset]
    scaling = ours.rope_scaling and {
        "rope_type": "llama3",
        "factor": ours.rope_scaling.factor,
        "low_freq_factor": ours.rope_scaling.low_freq_factor,
        "high_freq_factor": ours.rope_scaling.high_freq_factor,
        "original_max_position_embeddings": ours.rope_scaling.original_max_positions,
    }
    theirs = LlamaConfig(
        head_dim=ours.head_dim,
        rope_theta=ours.rope_theta,
        rope_scaling=scaling,
        max_position_embeddings=131_072,
    )
    torch.testing.assert_close(rotary_frequencies(ours), LlamaRotaryEmbedding(theirs).inv_freq, rtol=3e-7, atol=0.0)
