"""The block-TKG attention op: its values against plain loops, its read set by poisoning, its registration."""

import math
from collections.abc import Callable
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from tracing.decoder import (
    attention_block_tkg_cache_update_reference,
    attention_block_tkg_reference,
    operands_read,
    operands_written,
)
from tracing.decoder.attention_reference import AttentionOperands

ATTEND = torch.ops.deadkv.attention_block_tkg.default
UPDATE = torch.ops.deadkv.attention_block_tkg.cache_update
BATCH, HIDDEN, HEAD_DIM, BLOCK_LEN, BLOCKS = 3, 12, 4, 4, 11
TABLE = [[7, 2, 9], [4, -1, -1], [10, 5, -1]]
CONTEXT = len(TABLE[0]) * BLOCK_LEN
LENGTHS = (10, 3, 6)

Operands = dict[str, object]


def make_operands(q_heads: int = 4, kv_heads: int = 2, tokens: int = 1, **changes: object) -> Operands:
    """Random operands in block mode with everything on; `changes` replace some of them."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    width = (q_heads + 2 * kv_heads) * HEAD_DIM
    angles = normal(HEAD_DIM // 2, BATCH, tokens)
    positions = torch.tensor(LENGTHS).unsqueeze(1) + torch.arange(tokens)
    operands: Operands = {
        "X": normal(BATCH, tokens, HIDDEN),
        "rmsnorm_X_enabled": True,
        "rmsnorm_X_eps": 1e-5,
        "rmsnorm_X_gamma": normal(HIDDEN),
        "W_qkv": normal(HIDDEN, width),
        "bias_qkv": normal(width),
        "rmsnorm_QK_pre_rope_enabled": True,
        "rmsnorm_QK_pre_rope_eps": 1e-6,
        "rmsnorm_QK_pre_rope_W_Q": normal(HEAD_DIM),
        "rmsnorm_QK_pre_rope_W_K": normal(HEAD_DIM),
        "cos": angles.cos(),
        "sin": angles.sin(),
        "active_blocks_table": torch.tensor(TABLE, dtype=torch.int32),
        "K_cache": normal(BLOCKS + 1, BLOCK_LEN, kv_heads, HEAD_DIM),
        "V_cache": normal(BLOCKS + 1, BLOCK_LEN, kv_heads, HEAD_DIM),
        "attention_mask": mask(q_heads, tokens),
        "update_cache": False,
        "kv_cache_update_idx": flat_slots(positions),
        "W_out": normal(q_heads * HEAD_DIM, HIDDEN),
        "bias_out": normal(HIDDEN),
        "softmax_scale": 0.3,
        "k_prior": normal(BATCH, kv_heads, CONTEXT, HEAD_DIM),
        "v_prior": normal(BATCH, kv_heads, CONTEXT, HEAD_DIM),
        "k_scale": None,
        "v_scale": None,
    }
    operands |= changes
    return operands | {name: operands[name].to(torch.float8_e4m3fn) for name in quantized_caches(operands)}


def quantized_caches(operands: Operands) -> list[str]:
    """Which caches are float8: those that have a scale."""
    return [cache for cache, scale in (("K_cache", "k_scale"), ("V_cache", "v_scale")) if operands[scale] is not None]


def mask(q_heads: int, tokens: int) -> Tensor:
    """[S_ctx, B, q_heads, S_tkg]: each sequence's cached tokens, then the active ones in causal order."""
    seen = torch.arange(CONTEXT - tokens).unsqueeze(1) < torch.tensor(LENGTHS)
    seen = seen[:, :, None, None].expand(-1, -1, q_heads, tokens)
    causal = torch.ones(tokens, tokens, dtype=torch.bool).triu()
    return torch.cat([seen, causal[:, None, None].expand(-1, BATCH, q_heads, -1)])


def flat_slots(positions: Tensor) -> Tensor:
    table = torch.tensor(TABLE)
    return (table.gather(1, positions // BLOCK_LEN) * BLOCK_LEN + positions % BLOCK_LEN).to(torch.int32)


def expected(op: AttentionOperands) -> tuple[Tensor, Tensor, Tensor]:
    """The op, one head of one token of one sequence at a time, reading one cached vector at a time."""
    batch, tokens, _ = op.X.shape
    group = op.q_heads // op.kv_heads
    out = torch.zeros(batch * tokens, op.W_out.shape[1])
    keys = torch.zeros(HEAD_DIM, batch, op.kv_heads, tokens)
    values = torch.zeros(batch, op.kv_heads, tokens, HEAD_DIM)
    for b in range(batch):
        for kv in range(op.kv_heads):
            for s in range(tokens):
                keys[:, b, kv, s] = head(op, b, s, op.q_heads + kv, op.rmsnorm_QK_pre_rope_W_K)
                values[b, kv, s] = head(op, b, s, op.q_heads + op.kv_heads + kv, None)
        for s in range(tokens):
            for q in range(op.q_heads):
                query = head(op, b, s, q, op.rmsnorm_QK_pre_rope_W_Q)
                visible = [c for c in range(op.attention_mask.shape[0]) if op.attention_mask[c, b, q, s]]
                pairs = [cached(op, b, q // group, c, keys, values) for c in visible]
                pairs = [pair for pair in pairs if pair is not None]
                scale = op.softmax_scale if op.softmax_scale is not None else 1 / math.sqrt(HEAD_DIM)
                weights = torch.tensor([float(query @ key) * scale for key, _ in pairs]).softmax(0)
                attended = sum(weight * value for weight, (_, value) in zip(weights, pairs, strict=True))
                out[b * tokens + s] += attended @ op.W_out[q * HEAD_DIM : (q + 1) * HEAD_DIM]
    return out if op.bias_out is None else out + op.bias_out, keys, values


def head(op: AttentionOperands, b: int, s: int, index: int, norm: Tensor | None) -> Tensor:
    """One projected head of one token; q and k heads are normed if asked, and rotated."""
    x = op.X[b, s]
    if op.rmsnorm_X_enabled:
        x = x / (x.square().mean() + op.rmsnorm_X_eps).sqrt() * op.rmsnorm_X_gamma
    columns = slice(index * HEAD_DIM, (index + 1) * HEAD_DIM)
    y = x @ op.W_qkv[:, columns]
    if op.bias_qkv is not None:
        y = y + op.bias_qkv[columns]
    if index >= op.q_heads + op.kv_heads:
        return y
    if op.rmsnorm_QK_pre_rope_enabled:
        y = y / (y.square().mean() + op.rmsnorm_QK_pre_rope_eps).sqrt() * norm
    half = HEAD_DIM // 2
    turns = torch.complex(op.cos[:, b, s], op.sin[:, b, s]) * torch.complex(y[:half], y[half:])
    return torch.cat([turns.real, turns.imag])


def cached(
    op: AttentionOperands, b: int, kv: int, c: int, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor] | None:
    """K and V at context position c: an active token's, the prior's or the pool's, or None for no block."""
    first_active = op.attention_mask.shape[0] - op.X.shape[1]
    if c >= first_active:
        return keys[:, b, kv, c - first_active], values[b, kv, c - first_active]
    if op.active_blocks_table is None:
        return op.k_prior[b, kv, c], op.v_prior[b, kv, c]
    block = int(op.active_blocks_table[b, c // BLOCK_LEN])
    if block < 0:
        return None
    stored = op.K_cache[block, c % BLOCK_LEN, kv].float(), op.V_cache[block, c % BLOCK_LEN, kv].float()
    scales = [1.0 if scale is None else float(scale) for scale in (op.k_scale, op.v_scale)]
    return stored[0] / scales[0], stored[1] / scales[1]


FLAT: Operands = {"active_blocks_table": None}
BARE: Operands = {
    "rmsnorm_X_enabled": False,
    "rmsnorm_QK_pre_rope_enabled": False,
    "bias_qkv": None,
    "bias_out": None,
    "softmax_scale": None,
}
FLOAT8: Operands = {"k_scale": torch.tensor([[16.0]]), "v_scale": torch.tensor([[3.0]])}
ALL_SEEN: Operands = {"attention_mask": torch.ones(CONTEXT, BATCH, 4, 1, dtype=torch.bool)}


@pytest.mark.parametrize(
    "changes", [{}, FLAT, BARE, FLOAT8, ALL_SEEN], ids=["block", "flat", "bare", "float8", "mask-over-no-block"]
)
@pytest.mark.parametrize("q_heads, kv_heads, tokens", [(4, 2, 1), (4, 1, 1), (4, 4, 1), (4, 2, 2)])
def test_values(changes: Operands, q_heads: int, kv_heads: int, tokens: int) -> None:
    if "attention_mask" in changes and tokens > 1:
        changes = {"attention_mask": torch.ones(CONTEXT, BATCH, q_heads, tokens, dtype=torch.bool)}
    operands = make_operands(q_heads, kv_heads, tokens, **changes)
    for actual, wanted in zip(ATTEND(**operands), expected(AttentionOperands(**operands)), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)


def test_bfloat16_computes_in_float32_where_it_matters() -> None:
    operands = make_operands()
    half = {name: cast(value, torch.bfloat16) for name, value in operands.items()}
    wide = {name: cast(value, torch.float32) for name, value in half.items()}
    for actual, wanted in zip(ATTEND(**half), ATTEND(**wide), strict=True):
        assert actual.dtype == torch.bfloat16
        error = (actual.float() - wanted).norm() / wanted.norm()
        assert error < 2**-7


def cast(value: object, dtype: torch.dtype) -> object:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def run_update(operands: Operands) -> tuple[Tensor, Tensor, Tensor]:
    k_cache, v_cache = operands["K_cache"].clone(), operands["V_cache"].clone()
    out = UPDATE(**operands | {"K_cache": k_cache, "V_cache": v_cache})
    return out, k_cache, v_cache


@pytest.mark.parametrize("tokens", [1, 2])
def test_cache_update_writes_the_new_tokens_and_nothing_else(tokens: int) -> None:
    operands = make_operands(tokens=tokens)
    slots = operands["kv_cache_update_idx"]
    slots[1] = -1
    out, k_new, v_new = ATTEND(**operands)
    updated = run_update(operands | {"update_cache": True})
    assert torch.equal(updated[0], out)
    for cache, actual, rows in (
        (operands["K_cache"], updated[1], k_new.permute(1, 3, 2, 0)),
        (operands["V_cache"], updated[2], v_new.permute(0, 2, 1, 3)),
    ):
        wanted = cache.clone()
        for b, s in ((b, s) for b in (0, 2) for s in range(tokens)):
            wanted[slots[b, s] // BLOCK_LEN, slots[b, s] % BLOCK_LEN] = rows[b, s]
        assert torch.equal(actual, wanted)


@pytest.mark.parametrize("skipped", [[], [0], [1, 2], [0, 1, 2]])
@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize("dtypes", [{}, FLOAT8], ids=["float32", "float8"])
def test_functional_update_equals_the_in_place_one(skipped: list[int], update: bool, dtypes: Operands) -> None:
    operands = make_operands(update_cache=update, **dtypes)
    operands["kv_cache_update_idx"][0] = 0
    operands["kv_cache_update_idx"][skipped] = -1
    before = operands["K_cache"].clone()
    functional = attention_block_tkg_cache_update_reference(**operands)
    assert torch.equal(operands["K_cache"].float(), before.float())
    for actual, wanted in zip(functional, run_update(operands), strict=True):
        assert actual.dtype == wanted.dtype
        assert torch.equal(actual.float(), wanted.float())


def test_float8_update_stores_the_scaled_rows_saturated() -> None:
    operands = make_operands(update_cache=True, k_scale=torch.tensor([[1e4]]), v_scale=torch.tensor([[3.0]]))
    _, k_new, v_new = ATTEND(**operands | {"update_cache": False})
    _, k_cache, v_cache = run_update(operands)
    block, offset = (int(part) for part in divmod(int(operands["kv_cache_update_idx"][0]), BLOCK_LEN))
    assert torch.equal(
        k_cache[block, offset].float(), (k_new[:, 0, :, 0].t() * 1e4).clamp(-448, 448).to(torch.float8_e4m3fn).float()
    )
    assert torch.equal(v_cache[block, offset].float(), (v_new[0, :, 0] * 3.0).to(torch.float8_e4m3fn).float())


def test_the_op_is_its_reference() -> None:
    operands = make_operands()
    for actual, wanted in zip(ATTEND(**operands), attention_block_tkg_reference(**operands), strict=True):
        assert torch.equal(actual, wanted)


MODES: dict[str, Operands] = {
    "block": {},
    "flat": FLAT,
    "norms-off": {"rmsnorm_X_enabled": False, "rmsnorm_QK_pre_rope_enabled": False},
    "block-update": {"update_cache": True},
    "flat-update": FLAT | {"update_cache": True},
    "no-biases": {"bias_qkv": None, "bias_out": None},
    "float8": FLOAT8,
    "float8-update": FLOAT8 | {"update_cache": True},
    "float8-flat": FLOAT8 | FLAT,
    "float8-flat-update": FLOAT8 | FLAT | {"update_cache": True},
}
TENSORS = [field.name for field in fields(AttentionOperands) if "Tensor" in str(field.type)]


def results(operands: Operands) -> tuple[Tensor, ...]:
    """Outputs, and the rows the op writes: what was in the pools before is memory, not a result of the op."""
    if not operands["update_cache"]:
        return ATTEND(**operands)
    out, *caches = run_update(operands)
    pairs = [
        (cache.float(), operands[name].float()) for cache, name in zip(caches, ("K_cache", "V_cache"), strict=True)
    ]
    written = [(cache != before) & ~(cache.isnan() & before.isnan()) for cache, before in pairs]
    return out, *(cache.where(mask, 0.0) for (cache, _), mask in zip(pairs, written, strict=True))


def poisoned(value: Tensor) -> Tensor:
    if value.is_floating_point():
        return torch.full_like(value, math.nan)
    return torch.full_like(value, torch.iinfo(value.dtype).max)


def perturbed(name: str, value: Tensor) -> Tensor:
    if value.dtype == torch.bool:
        return value.roll(2, dims=0)
    if name == "active_blocks_table":
        return value.flip(0)
    return (value.float() + 1).to(value.dtype) if value.is_floating_point() else value + 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TENSORS)
def test_read_set_is_exact(mode: str, name: str) -> None:
    operands = make_operands(**MODES[mode])
    value = operands[name]
    read = operands_read(operands)
    if value is None:
        assert name not in read
        return
    change: Callable[[Tensor], Tensor] = poisoned if name not in read else lambda tensor: perturbed(name, tensor)
    pairs = zip(results(operands), results(operands | {name: change(value)}), strict=True)
    same = [torch.equal(before, after) for before, after in pairs]
    assert all(same) if name not in read else not all(same)


def test_blocks_without_a_table_entry_are_never_read() -> None:
    operands = make_operands()
    absent = sorted(set(range(BLOCKS + 1)) - {block for row in TABLE for block in row})
    assert 0 in absent
    poison = {name: operands[name].clone() for name in ("K_cache", "V_cache")}
    for cache in poison.values():
        cache[absent] = math.nan
    for actual, wanted in zip(ATTEND(**operands | poison), ATTEND(**operands), strict=True):
        assert torch.equal(actual, wanted)


def test_a_static_argument_that_is_no_constant_counts_as_set() -> None:
    unknown = make_operands(update_cache=object(), rmsnorm_X_enabled=object())
    assert {"kv_cache_update_idx", "rmsnorm_X_gamma"} <= operands_read(unknown)
    assert operands_written(unknown) == {"K_cache", "V_cache"}


def test_written_operands() -> None:
    assert operands_written(make_operands()) == set()
    assert operands_written(make_operands(update_cache=True)) == {"K_cache", "V_cache"}


@pytest.mark.parametrize("overload", [ATTEND, UPDATE], ids=["default", "cache_update"])
def test_schema_is_the_operand_list(overload: torch._ops.OpOverload) -> None:
    arguments = overload._schema.arguments
    assert [argument.name for argument in arguments] == [field.name for field in fields(AttentionOperands)]
    written = {argument.name for argument in arguments if argument.alias_info is not None}
    assert written == (operands_written({"update_cache": True}) if overload is UPDATE else set())


@pytest.mark.parametrize("overload", [ATTEND, UPDATE], ids=["default", "cache_update"])
@pytest.mark.parametrize("changes", [{}, FLAT, BARE], ids=["block", "flat", "bare"])
def test_registration(overload: torch._ops.OpOverload, changes: Operands) -> None:
    operands = make_operands(tokens=2, **changes, update_cache=overload is UPDATE)
    torch.library.opcheck(overload, tuple(operands.values()))


@pytest.mark.parametrize("overload", [ATTEND, UPDATE], ids=["default", "cache_update"])
def test_registration_with_float8_caches(overload: torch._ops.OpOverload) -> None:
    operands = make_operands(tokens=2, **FLOAT8, update_cache=overload is UPDATE)
    checks = ("test_autograd_registration", "test_faketensor")  # opcheck cannot compare float8 tensors by value
    torch.library.opcheck(overload, tuple(operands.values()), test_utils=checks)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"update_cache": True}, "cache_update"),
        ({"rmsnorm_X_gamma": None}, "rmsnorm_X_gamma is None"),
        ({"rmsnorm_QK_pre_rope_W_K": None}, "rmsnorm_QK_pre_rope_W_K is None"),
        (FLAT | {"v_prior": None}, "v_prior is None"),
    ],
)
def test_operands_that_contradict_each_other_are_refused(changes: Operands, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ATTEND(**make_operands(**changes))


def test_the_functional_overload_refuses_to_update_while_it_is_traced() -> None:
    meta = {n: v.to("meta") if isinstance(v, Tensor) else v for n, v in make_operands(update_cache=True).items()}
    with pytest.raises(ValueError, match="call its overload cache_update"):
        ATTEND(**meta)


def test_update_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="kv_cache_update_idx is None"):
        UPDATE(**make_operands(update_cache=True, kv_cache_update_idx=None))
