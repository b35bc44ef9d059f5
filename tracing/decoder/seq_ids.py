"""A decoder that is also told which sequence each row of the batch belongs to."""

from torch import Tensor

from tracing.decoder.forward_inputs import DecoderInputs
from tracing.decoder.model import Decoder


class SeqIdsDecoder(Decoder):
    """A token-generation decoder with NxDI's seq-id mask (`apply_seq_ids_mask`)."""

    def forward(  # type: ignore[override]  # takes other inputs
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        slot_mapping: Tensor,
        active_block_table: Tensor,
        seq_ids: Tensor,
    ) -> list[Tensor]:
        """As `Decoder.forward`. seq_ids: `[B]` int32, negative for an idle row, whose tokens are not stored."""
        inputs = DecoderInputs(
            input_ids, attention_mask, position_ids, slot_mapping, active_block_table, seq_ids=seq_ids
        )
        return self.decode(inputs)
