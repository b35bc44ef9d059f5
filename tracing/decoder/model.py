"""The reference decoder: a Llama/Qwen3-style model over a paged KV cache, traced as one of its variants."""

import torch
from torch import Tensor, nn

from passes.errors import DeadkvError
from tracing.decoder.config import DecoderConfig
from tracing.decoder.forward_inputs import DecoderInputs, needed
from tracing.decoder.inputs import input_shapes
from tracing.decoder.kv_cache import KeyValue
from tracing.decoder.kv_managers import cache_manager
from tracing.decoder.layer import linear
from tracing.decoder.norm import RMSNorm
from tracing.decoder.rope import RotaryEmbedding
from tracing.decoder.step import Step, prepare_step
from tracing.decoder.structures import RUNS, build_layers
from tracing.decoder.variants import Variant


class Decoder(nn.Module):
    """A decoder of `config`, laid out for `variant`; build it with `build_decoder`.

    Its KV pools are `kv_mgr.past_key_values.{2l}` (K of layer l) and `{2l + 1}` (V).
    """

    def __init__(self, config: DecoderConfig, variant: Variant, batch: int, bucket: int) -> None:
        super().__init__()
        self.config, self.variant, self.batch, self.bucket = config, variant, batch, bucket
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, dtype=config.dtype)
        self.rotary_emb = RotaryEmbedding(config)
        self.layers = build_layers(config, variant)
        self.norm = RMSNorm(config.hidden_size, config)
        self.lm_head = None if config.tied_embeddings else linear(config.hidden_size, config.vocab_size, config)
        self.kv_mgr = cache_manager(config, variant, batch, bucket)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        slot_mapping: Tensor,
        active_block_table: Tensor,
        num_queries: Tensor | None = None,
        computed_context_lens: Tensor | None = None,
    ) -> list[Tensor]:
        """Logits float32, then the updated pools K0, V0, K1, ...

        The logits are `[B, S, vocab]` for token generation, else those of each sequence's last token, `[B, 1, vocab]`.
        All inputs are int32. S is `variant.active_tokens` for token generation and the bucket for context encoding.
        input_ids, position_ids: `[B, S]`.
        slot_mapping: `[B, S]` flat pool slots, -1 for a token that is not stored.
        attention_mask: `[B, bucket]`, 1 for each cached token; without prefix, for each real prompt token.
        active_block_table: `[B, bucket / block_size]`, padded by `variant.table_padding`; `[1]` without prefix.
        num_queries: `[B, 1]`, how many of the S tokens are real, 0 for an idle row; context encoding only.
        computed_context_lens: `[B, 1]`, cached tokens to attend to; context encoding with prefix only.
        """
        inputs = DecoderInputs(
            input_ids,
            attention_mask,
            position_ids,
            slot_mapping,
            active_block_table,
            num_queries,
            computed_context_lens,
        )
        return self.decode(inputs)

    def decode(self, inputs: DecoderInputs) -> list[Tensor]:
        """One step: logits and updated pools, as `forward` returns them."""
        caches = self.kv_mgr.layer_caches(inputs.active_block_table, self.variant)
        step = prepare_step(self.config, self.variant, inputs, *self.rotary_emb(inputs.position_ids))
        hidden: Tensor = self.embed_tokens(inputs.input_ids)
        hidden, new_key_values = RUNS[self.variant.structure](self.layers, hidden, step, caches)
        return [self._logits(hidden, inputs), *self._updated_pools(new_key_values, step)]

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs this variant takes, in order."""
        return tuple(self._input_shapes())

    def example_inputs(self) -> tuple[Tensor, ...]:
        """Zeros of every input's shape, int32, on the decoder's device; valid, since they all name block 0."""
        device = self.embed_tokens.weight.device
        return tuple(torch.zeros(shape, dtype=torch.int32, device=device) for shape in self._input_shapes().values())

    def check_storage(self) -> None:
        """Raise DeadkvError where the decoder was built on meta and so has nothing to write to."""
        if self.embed_tokens.weight.is_meta:
            raise DeadkvError("the decoder has no storage (device meta): build it with device='cpu'")

    def decoders(self) -> "list[Decoder]":
        """The decoder itself, and any other that it holds."""
        return [self]

    def aliases(self) -> dict[nn.Parameter, int]:
        """Which output replaces which pool: `{pool: output index}`."""
        return {pool: index for index, pool in enumerate(self.kv_mgr.past_key_values, start=1)}

    def _input_shapes(self) -> dict[str, tuple[int, ...]]:
        return input_shapes(self.variant, self.batch, self.bucket, self.config.block_size)

    def _updated_pools(self, new_key_values: list[KeyValue], step: Step) -> list[Tensor]:
        if self.variant.kernel_updates_cache:
            return list(self.kv_mgr.past_key_values)
        return self.kv_mgr.update_cache(new_key_values, step.slots)

    def _logits(self, hidden: Tensor, inputs: DecoderInputs) -> Tensor:
        last = self.norm(self._last_token(hidden, inputs))
        head = self.embed_tokens if self.lm_head is None else self.lm_head
        logits = nn.functional.linear(last, head.weight).to(torch.float32)
        if self.variant.prefix:
            return logits
        # Nothing reads an empty table; as in NxDI, this keeps it among the compiled graph's inputs.
        return logits + inputs.active_block_table[0] * 0

    def _last_token(self, hidden: Tensor, inputs: DecoderInputs) -> Tensor:
        if self.variant.token_generation:
            return hidden
        last = (needed(inputs.num_queries, "num_queries") - 1).clamp(min=0).to(torch.int64)
        return hidden.gather(1, last.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
