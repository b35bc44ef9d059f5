"""What the caller knows of a token-generation graph that the graph itself may not show."""

from __future__ import annotations

from dataclasses import dataclass

from passes.neuron_config import gate_facts


@dataclass(frozen=True)
class TkgContext:
    """Facts about the graph and the configuration it was traced under. None means: not known, ask the graph.

    Attributes:
        pools: names of the block-cache pools, as parameters (fully qualified) or as inputs, in the order
            K of layer 0, V of layer 0, K of layer 1, ...
        block_table: name of the input that holds the active block table.
        token_generation: the graph is a token-generation (TKG) graph, not context encoding.
        prefix_caching: NxDI's `is_prefix_caching`.
        block_kv_layout: NxDI's `is_block_kv_layout`.
        block_tkg_attention: NxDI's `attn_block_tkg_nki_kernel_enabled`.
        kv_cache_quantization: NxDI's `kv_cache_quant` or `kv_quant_config`.
        chunked_or_windowed_attention: chunked attention, chunked prefill or a sliding window.
        seq_ids_mask_cache_update: `apply_seq_ids_mask` together with the in-kernel cache update.
        block_cache_manager: the model's cache manager is the block manager (not flat, not data parallel).
        prefix_in_table: the block table is not empty; NxDI passes one of rank 1 where the prefix bucket is shorter
            than a block.
    """

    pools: tuple[str, ...] = ()
    block_table: str | None = None
    token_generation: bool | None = None
    prefix_caching: bool | None = None
    block_kv_layout: bool | None = None
    block_tkg_attention: bool | None = None
    kv_cache_quantization: bool | None = None
    chunked_or_windowed_attention: bool | None = None
    seq_ids_mask_cache_update: bool | None = None
    block_cache_manager: bool | None = None
    prefix_in_table: bool | None = None

    @classmethod
    def from_neuron_config(
        cls,
        config: object,
        *,
        pools: tuple[str, ...] = (),
        block_table: str | None = None,
        token_generation: bool | None = None,
    ) -> TkgContext:
        """The context that NxD Inference's flags describe.

        Args:
            config: a NeuronConfig, an InferenceConfig with a `neuron_config`, or a mapping with the flags' names. A
                flag that it does not have stays unknown. `sliding_window` and `attention_chunk_size` are also looked
                for in a nested `config`, which is where a model keeps them.
            pools: as in the class; no flag says it.
            block_table: as in the class; no flag says it.
            token_generation: whether the graph is the token-generation one; a configuration is for all submodels.

        Raises:
            DeadkvError: not one flag is known, a value has the wrong type, or two flags contradict a constraint of
                NxD Inference, which the message names.
        """
        return cls(pools=pools, block_table=block_table, token_generation=token_generation, **gate_facts(config))
