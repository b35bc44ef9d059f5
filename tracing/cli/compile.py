"""`deadkv compile`: the main job."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from passes import DeadkvError, PrunePrefixCache
from passes.pipeline import PassRun
from passes.registry import make_pass
from tracing.backends import BACKENDS, TARGETS, get_backend, get_target
from tracing.capture import FRONTENDS, spinner
from tracing.cli.reports import print_summary
from tracing.cli.terminal import print_json, stderr, stdout
from tracing.decoder import PRESETS, VARIANTS, Decoder, build_decoder, load_safetensors_folder, random_weights
from tracing.execution import RunCheck, check_run, require_memory, require_whole
from tracing.output import check_output_folder
from tracing.pipeline import CompileResult, compile_tkg

Names = ", ".join


def compile_command(
    model: Annotated[str, typer.Option(help=f"Preset: {Names(PRESETS)}.")] = "llama-3.2-1b",
    variant: Annotated[str, typer.Option(help=f"Variant of the decoder: {Names(VARIANTS)}.")] = "base",
    layers: Annotated[int | None, typer.Option(help="Number of layers; the preset's own if not given.")] = None,
    batch: Annotated[int, typer.Option(help="Sequences in a step.")] = 4,
    bucket: Annotated[int, typer.Option(help="Tokens of prefix a sequence, a multiple of the block size.")] = 1024,
    frontend: Annotated[str, typer.Option(help=f"How the graph is captured: {Names(FRONTENDS)}.")] = "make_fx",
    policy: Annotated[str, typer.Option(help="Which dead sites go: conservative, liveness.")] = "conservative",
    shrink_inputs: Annotated[
        bool, typer.Option("--shrink-inputs", help="Drop the graph inputs that lose their last use.")
    ] = False,
    then: Annotated[
        list[str] | None, typer.Option("--pass", help="Further pass, run after prune-prefix-cache; repeatable.")
    ] = None,
    backend: Annotated[str, typer.Option(help=f"Hand-off: auto (best installed), {Names(BACKENDS)}.")] = "auto",
    target: Annotated[str, typer.Option(help=f"Compile for: {Names(TARGETS)}.")] = "inf2",
    out: Annotated[
        Path | None, typer.Option(help="Output folder; must not exist.", show_default="deadkv-out/...")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Hugging Face folder with safetensors files.")] = None,
    run: Annotated[bool, typer.Option("--run", help="Also run torch and XLA:CPU and compare all results.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the random weights and inputs of --run.")] = 0,
    compiler_arg: Annotated[
        list[str] | None, typer.Option(help="Further argument for the compiler; repeatable.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Limit for the compiler's run, in seconds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Capture a decoder's token-generation graph, prune it, verify it, and hand it to the compiler.

    Writes before and after graphs, report.json, the diff, and the compiler's artefacts. No weights are needed.
    """
    folder = out or Path("deadkv-out") / f"{Path(model).name}-{Path(variant).name}-{Path(frontend).name}"
    passes = [PrunePrefixCache(policy=policy, shrink_inputs=shrink_inputs), *map(make_pass, then or ())]
    _check_choices(frontend, backend, target, folder)
    decoder = build_decoder(model, variant, layers=layers, batch=batch, bucket=bucket)
    if weights is not None or run:
        require_whole(decoder)
        require_memory(decoder)
        decoder = build_decoder(model, variant, layers=layers, batch=batch, bucket=bucket, device="cpu")
        random_weights(decoder, seed) if weights is None else load_safetensors_folder(decoder, weights)
    with spinner("deadkv compile") as progress:
        result = compile_tkg(
            decoder, decoder.example_inputs(), passes=passes, backend=backend, target=target, out_dir=folder,
            frontend=frontend, aliases=decoder.aliases(), compiler_args=compiler_arg or (), timeout_s=timeout,
            progress=progress, log=lambda line: stderr().print(line),
        )  # fmt: skip
        check = _run(decoder, result, target, seed) if run else None
    _print(result, check, as_json)
    if check is not None and not check.passed:
        raise typer.Exit(1)


def _check_choices(frontend: str, backend: str, target: str, folder: Path) -> None:
    """Refuses a wrong choice before any work is done."""
    if frontend not in FRONTENDS:
        raise DeadkvError(f"unknown frontend {frontend!r}: choose one of {Names(FRONTENDS)}")
    get_target(target)
    get_backend(backend)
    check_output_folder(folder)


def _run(decoder: Decoder, result: CompileResult, target: str, seed: int) -> RunCheck:
    return check_run(decoder, result.before, result.graph_module, target=target, seed=seed)


def _print(result: CompileResult, check: RunCheck | None, as_json: bool) -> None:
    assert result.report is not None and result.backend is not None
    if as_json:
        print_json(_as_json(result, check))
        return
    print_summary(result.report)
    console = stdout()
    for further in _further(result):
        console.print(f"{further.name}: {'done' if further.report is None else further.report.headline}")
    if check is not None:
        console.print(check.line)
    done = result.backend
    console.print(f"wrote {result.out_dir}: {done.backend}: {done.message}")
    if done.command is not None and done.exit_code is None:
        console.print(f"  cd {shlex.quote(str(result.out_dir))} && {shlex.join(done.command)}")


def _further(result: CompileResult) -> tuple[PassRun, ...]:
    """What the passes after prune-prefix-cache did."""
    return result.pipeline.runs[1:]


def _as_json(result: CompileResult, check: RunCheck | None) -> dict[str, Any]:
    assert result.report is not None and result.backend is not None
    done = result.backend
    return {
        "out": str(result.out_dir),
        "report": result.report.to_dict(),
        "further": {run.name: None if run.report is None else run.report.to_dict() for run in _further(result)},
        "backend": {
            "name": done.backend,
            "artefacts": list(done.artefacts),
            "command": None if done.command is None else list(done.command),
            "exit_code": done.exit_code,
            "log_file": done.log_file,
            "message": done.message,
        },
        "run": None if check is None else check.to_dict(),
    }
