"""`deadkv compile --run` with each cache variant: HLO is written, and XLA computes what torch does, pruned or not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from tracing import capture
from tracing.cli import main
from tracing.decoder import Variant, build_decoder, random_weights
from tracing.execution import CACHE_TOLERANCES, check_run

GATHERS_LEFT = {
    "seq-id-mask": 0,
    "speculation": 0,
    "tiled": 2,
    "fp8": 0,
    "sliding-window": 2,
    "chunked-prefill": 2,
    "flat-cache": 0,
    "opaque-past": 0,
}


@pytest.mark.parametrize("variant, left", GATHERS_LEFT.items())
def test_compile_and_run(
    variant: str, left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", "tiny", "--layers", "1", "--batch", "2", "--bucket", "64", "--policy", "liveness"]
    command = [
        "deadkv",
        "compile",
        "--variant",
        variant,
        *options,
        "--backend",
        "hlo",
        "--run",
        "--json",
        "--out",
        str(tmp_path / "out"),
    ]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    result = json.loads(capsys.readouterr().out)
    assert result["run"]["passed"]
    assert result["report"]["summary"]["gathers_after"] == left
    assert {"before.hlo.pb", "after.hlo.pb"} <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    "flags", [{}, {"kernel_updates_cache": True}, {"block_tkg": False}], ids=["op", "update", "torch"]
)
def test_a_bfloat16_decoder_with_float8_pools_runs_within_one_step_of_float8(flags: dict[str, bool]) -> None:
    variant = Variant(quantized_cache=True, **flags)
    decoder = build_decoder("tiny", variant, batch=4, bucket=64, dtype=torch.bfloat16, device="cpu")
    random_weights(decoder, seed=0)
    graph = capture(decoder, decoder.example_inputs(), aliases=decoder.aliases())
    check = check_run(decoder, graph, graph, target="inf2", seed=1)
    assert check.passed, check.line
    assert check.cache_tolerance == CACHE_TOLERANCES[torch.float8_e4m3fn] > check.tolerance
