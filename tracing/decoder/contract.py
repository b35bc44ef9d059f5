"""The read-set contract of the reference decoder's attention op, for the passes."""

from __future__ import annotations

from passes import register_contract
from tracing.decoder.attention_op import operands_read, operands_written

register_contract("deadkv::attention_block_tkg", reads=operands_read, writes=operands_written)
