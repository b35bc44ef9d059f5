"""The inputs of one forward pass of a decoder, by name."""

from typing import NamedTuple

from torch import Tensor

from passes.errors import DeadkvError


class DecoderInputs(NamedTuple):
    """The decoder's forward arguments, by name (shapes in `Decoder.forward`)."""

    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    slot_mapping: Tensor
    active_block_table: Tensor
    num_queries: Tensor | None = None
    computed_context_lens: Tensor | None = None
    seq_ids: Tensor | None = None


def needed(tensor: Tensor | None, name: str) -> Tensor:
    """The tensor, or DeadkvError where the caller left out an input that the variant reads."""
    if tensor is None:
        raise DeadkvError(f"this decoder variant needs the input {name}: pass all of Decoder.input_names")
    return tensor
