"""The command line, end to end: what it prints, what it writes, how it fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from passes.report import SCHEMA
from tests.support.commands import Run
from tracing.cli import main

SMALL = ("--model", "tiny", "--batch", "2", "--bucket", "64")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Output folders of the base and the hand-edited variant, on each frontend."""
    root = tmp_path_factory.mktemp("compiled")
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        for variant in ("base", "hand-edited", "no-block-tkg"):
            for frontend in ("make_fx", "export", "dynamo"):
                name = f"{variant}-{frontend}"
                folders[name] = root / name
                options = ("--variant", variant, "--frontend", frontend, "--out", str(folders[name]))
                patch.setattr(sys, "argv", ["deadkv", "compile", *SMALL, *options])
                with pytest.raises(SystemExit) as stopped:
                    main()
                assert not stopped.value.code
    yield folders


FILES = [
    "after.graph.json", "after.graph.txt", "after.hlo.pb", "after.stablehlo.mlir",
    "before.graph.json", "before.graph.txt", "before.hlo.pb", "before.stablehlo.mlir",
    "command.txt", "diff.html", "diff.txt", "parameters.json", "report.json",
]  # fmt: skip


def test_compile_writes_every_artefact(compiled: dict[str, Path]) -> None:
    folder = compiled["base-make_fx"]
    assert sorted(path.name for path in folder.iterdir()) == FILES
    report = json.loads((folder / "report.json").read_text())
    assert report["schema"] == SCHEMA
    assert report["summary"]["gathers_before"] == 4 and report["summary"]["gathers_after"] == 0
    assert report["summary"]["nodes_before"] - report["summary"]["nodes_after"] == 20
    assert {site["status"] for site in report["sites"]} == {"pruned"}
    assert (
        (folder / "command.txt").read_text().startswith("neuronx-cc compile after.hlo.pb --framework XLA --target inf2")
    )
    assert "<html" in (folder / "diff.html").read_text()


def test_a_zero_user_site_never_reaches_the_hlo(compiled: dict[str, Path]) -> None:
    folder = compiled["base-make_fx"]
    assert (folder / "before.hlo.pb").read_bytes() == (folder / "after.hlo.pb").read_bytes()


@pytest.mark.parametrize("frontend", ["make_fx", "export", "dynamo"])
def test_the_pruned_graph_is_the_hand_edited_graph(deadkv: Run, compiled: dict[str, Path], frontend: str) -> None:
    pruned = compiled[f"base-{frontend}"] / "after.graph.json"
    edited = compiled[f"hand-edited-{frontend}"] / "before.graph.json"
    assert deadkv("diff", pruned, edited) == 0
    assert deadkv("diff", compiled[f"base-{frontend}"] / "before.graph.json", edited) == 1


@pytest.mark.parametrize("frontend", ["make_fx", "export", "dynamo"])
def test_live_sites_stay_and_name_what_pins_them(compiled: dict[str, Path], frontend: str) -> None:
    report = json.loads((compiled[f"no-block-tkg-{frontend}"] / "report.json").read_text())
    assert report["summary"]["gathers_after"] == report["summary"]["gathers_before"] == 4
    assert report["removed"] == []
    for site in report["sites"]:
        assert site["status"] == "live"
        assert site["pinned_by"][-1] == "output"
        assert "which reaches output" in site["reason"]


@pytest.mark.parametrize("frontend", ["make_fx", "export", "dynamo"])
def test_verify_accepts_the_pruned_graph_and_rejects_another(
    deadkv: Run, compiled: dict[str, Path], frontend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = compiled[f"base-{frontend}"]
    assert deadkv("verify", folder / "before.graph.json", folder / "after.graph.json") == 0
    assert "verified" in capsys.readouterr().out
    other = compiled[f"no-block-tkg-{frontend}"] / "after.graph.json"
    assert deadkv("verify", folder / "before.graph.json", other) == 1
    assert "not verified" in capsys.readouterr().out


def test_explain_lists_every_site(deadkv: Run, compiled: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert deadkv("explain", compiled["base-make_fx"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("gathers 4 -> 4")
    assert lines[2].split()[:4] == ["0", "K", "kv_mgr.past_key_values.0", "dead"]
    assert len(lines) == 6


def test_json_output_is_one_document(
    deadkv: Run, compiled: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = compiled["base-make_fx"]
    before, after = folder / "before.graph.json", folder / "after.graph.json"
    expected: list[tuple[tuple[Any, ...], int]] = [
        (("explain", before, "--json"), 0), (("diff", before, after, "--json"), 1),
        (("verify", before, after, "--json"), 0), (("passes", "--json"), 0),
    ]  # fmt: skip
    for arguments, code in expected:
        assert deadkv(*arguments) == code
        json.loads(capsys.readouterr().out)


def test_compile_prints_json(deadkv: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deadkv("compile", *SMALL, "--out", tmp_path / "out", "--json", "--run") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["report"]["summary"]["gathers_after"] == 0
    assert printed["backend"]["command"][0] == "neuronx-cc"
    assert printed["run"]["passed"] is True


def test_diff_writes_html_and_dot(deadkv: Run, compiled: dict[str, Path], tmp_path: Path) -> None:
    folder = compiled["base-make_fx"]
    graphs = folder / "before.graph.json", folder / "after.graph.json"
    assert deadkv("diff", *graphs, "--html", tmp_path / "d.html", "--dot", tmp_path / "d.dot") == 1
    assert "<html" in (tmp_path / "d.html").read_text() and "digraph" in (tmp_path / "d.dot").read_text()
    assert deadkv("diff", *graphs, "--html", tmp_path / "no" / "d.html") == 2


BAD_CHOICES = [
    (("--model", "gpt-2"), "unknown model preset 'gpt-2': choose one of tiny, llama-3.2-1b"),
    (("--variant", "fast"), "choose one of base, hand-edited"),
    (("--frontend", "tf"), "unknown frontend 'tf': choose one of make_fx, export, dynamo"),
    (("--backend", "gcc"), "unknown backend 'gcc': choose one of auto, torch-neuronx, neuronx-cc, hlo"),
    (("--policy", "brave"), "unknown policy 'brave': choose one of conservative, liveness"),
    (("--target", "tpu"), "inf2, trn1, trn2"),
    (("--bucket", "63"), "63 is not a positive multiple of the block size 8"),
    (("--layers", "0"), "layers"),
    (("--batch", "0"), "batch must be at least 1"),
    (("--backend", "torch-neuronx"), "torch-neuronx"),
    (("--weights", "nowhere"), "nowhere"),
]


@pytest.mark.parametrize(("options", "message"), BAD_CHOICES, ids=[" ".join(options) for options, _ in BAD_CHOICES])
def test_a_bad_choice_is_one_line_and_writes_nothing(
    deadkv: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert deadkv("compile", *SMALL, "--out", tmp_path / "out", *options) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("deadkv: ") and printed.err.count("\n") == 1
    assert message in printed.err
    assert printed.out == "" and list(tmp_path.iterdir()) == []


def test_an_existing_output_folder_is_refused(deadkv: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deadkv("compile", *SMALL, "--out", tmp_path) == 2
    assert "exists already" in capsys.readouterr().err


def test_an_unwritable_output_folder_is_refused(
    deadkv: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert deadkv("compile", *SMALL, "--out", tmp_path / "file" / "out") == 2
    assert "cannot write the output folder" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["diff", "explain", "verify"])
def test_a_file_that_is_no_graph_is_one_line(
    deadkv: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    for path in (wrong, tmp_path / "absent.json", tmp_path):
        arguments = (path,) if command == "explain" else (path, path)
        assert deadkv(command, *arguments) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("deadkv: ") and printed.err.count("\n") == 1


def test_weights_of_a_hugging_face_folder_are_loaded_and_run(
    deadkv: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    arguments = ("compile", *SMALL, "--weights", tmp_path / "model", "--run", "--json")
    assert deadkv(*arguments, "--out", tmp_path / "out") == 0
    assert json.loads(capsys.readouterr().out)["run"]["passed"] is True
    wrong = ("compile", *SMALL, "--layers", "3", "--weights", tmp_path / "model", "--out", tmp_path / "three")
    assert deadkv(*wrong) == 2
    error = capsys.readouterr().err
    assert "model.layers.2." in error and error.count("\n") == 1
    assert not (tmp_path / "three").exists()


def test_further_passes_run_after_pruning_and_report(
    deadkv: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("compile", *SMALL, "--shrink-inputs", "--pass", "dedup-prefix-cache", "--out", tmp_path / "out")
    assert deadkv(*arguments) == 0
    assert "dedup-prefix-cache: gathers 0 -> 0" in capsys.readouterr().out
    further = json.loads((tmp_path / "out" / "report.dedup-prefix-cache.json").read_text())
    assert further["schema"] == "deadkv.dedup-report/1" and further["removed"] == []
    assert set(json.loads((tmp_path / "out" / "report.json").read_text())["input_map"]) > {0, 1}
    assert deadkv("passes", "--json") == 0
    assert {"dedup-prefix-cache", "prune-prefix-cache"} <= {
        entry["name"] for entry in json.loads(capsys.readouterr().out)
    }


def test_an_unknown_further_pass_is_one_line(deadkv: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert deadkv("compile", *SMALL, "--pass", "dedup", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "unknown pass 'dedup': available are dedup-prefix-cache, prune-prefix-cache" in error
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_help_names_every_command(deadkv: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert deadkv("--help") == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in ("compile", "diff", "explain", "verify", "passes"))
