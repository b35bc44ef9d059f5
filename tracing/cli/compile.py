"""`deadkv compile`: the main job."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer
from torch.fx.passes.infra.pass_base import PassBase

from passes import DeadkvError, PrunePrefixCache
from passes.pipeline import DISABLE, PassRun
from passes.specs import make_pass
from tracing.backends import BACKENDS, TARGETS, TIME_LIMIT_S, get_backend, get_target
from tracing.buckets import DecoderBuckets, compile_buckets
from tracing.capture import FRONTENDS, spinner
from tracing.cli.buckets import bucket_progress, parse_buckets, print_buckets
from tracing.cli.reports import print_summary
from tracing.cli.terminal import passes_logged, print_json, stderr, stdout
from tracing.decoder import PRESETS, VARIANTS, Decoder
from tracing.execution import RunCheck, check_run
from tracing.output import check_output_folder
from tracing.pipeline import CompileResult, compile_tkg

SOME_FAILED = 2
Names = ", ".join


def compile_command(
    model: Annotated[str, typer.Option(help=f"Preset: {Names(PRESETS)}.")] = "llama-3.2-1b",
    variant: Annotated[str, typer.Option(help=f"Variant of the decoder: {Names(VARIANTS)}.")] = "base",
    layers: Annotated[int | None, typer.Option(help="Number of layers; the preset's own if not given.")] = None,
    batch: Annotated[int, typer.Option(help="Sequences in a step.")] = 4,
    bucket: Annotated[
        str,
        typer.Option(
            metavar="TOKENS[,TOKENS...]",
            help="Tokens of prefix a sequence, a multiple of the block size; with several, one folder for each.",
        ),
    ] = "1024",
    jobs: Annotated[int, typer.Option(help="Processes that compile when there are several buckets.")] = 1,
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
    timeout: Annotated[
        float, typer.Option(help="Limit for the compiler's run, in seconds; 0 for none.")
    ] = TIME_LIMIT_S,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the HLO and command.txt; do not run the compiler.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="With one bucket: a line on stderr for each pass, with its time."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Capture a decoder's token-generation graph, prune it, verify it, and hand it to the compiler.

    Writes before and after graphs, report.json, the diff, and the compiler's artefacts. No weights are needed.
    With several buckets: one folder each and one report; exit code 2 if one of them failed, the others are kept.
    """
    folder = out or Path("deadkv-out") / f"{Path(model).name}-{Path(variant).name}-{Path(frontend).name}"
    passes = [PrunePrefixCache(policy=policy, shrink_inputs=shrink_inputs), *map(make_pass, then or ())]
    _check_choices(frontend, backend, target, folder, dry_run)
    buckets = parse_buckets(bucket)
    decoders = DecoderBuckets(model, variant, layers, batch, weights, seed if run else None)
    options: CompileOptions = {
        "passes": passes, "backend": backend, "target": target, "frontend": frontend, "out_dir": folder,
        "compiler_args": tuple(compiler_arg or ()), "timeout_s": timeout or None,
        "dry_run": dry_run,
    }  # fmt: skip
    if len(buckets) > 1:
        _compile_many(decoders, buckets, jobs, run, options, as_json)
        return
    with passes_logged(verbose):
        _compile_one(decoders.decoder(buckets[0]), run, seed, options, as_json)


class CompileOptions(TypedDict):
    """What `compile_tkg` and `compile_buckets` both take."""

    passes: Sequence[str | PassBase]
    backend: str
    target: str
    frontend: str
    out_dir: Path
    compiler_args: Sequence[str]
    timeout_s: float | None
    dry_run: bool


def _compile_one(decoder: Decoder, run: bool, seed: int, options: CompileOptions, as_json: bool) -> None:
    with spinner("deadkv compile") as progress:
        result = compile_tkg(
            decoder, decoder.example_inputs(), aliases=decoder.aliases(), progress=progress,
            log=lambda line: stderr().print(line), **options,
        )  # fmt: skip
        check = _run(decoder, result, options["target"], seed) if run else None
    _print(result, check, as_json)
    if check is not None and not check.passed:
        raise typer.Exit(1)


def _compile_many(
    decoders: DecoderBuckets, buckets: Sequence[int], jobs: int, run: bool, options: CompileOptions, as_json: bool
) -> None:
    if run:
        raise DeadkvError("--run compares the results of one bucket: give a single --bucket with it")
    decoders.check(buckets)
    with bucket_progress(len(buckets)) as progress:
        result = compile_buckets(decoders, buckets, jobs=jobs, progress=progress, **options)
    print_buckets(result, as_json)
    if result.failed:
        raise typer.Exit(SOME_FAILED)


def _check_choices(frontend: str, backend: str, target: str, folder: Path, dry_run: bool) -> None:
    """Refuses a wrong choice before any work is done."""
    if frontend not in FRONTENDS:
        raise DeadkvError(f"unknown frontend {frontend!r}: choose one of {Names(FRONTENDS)}")
    get_target(target)
    get_backend(backend, dry_run=dry_run)
    check_output_folder(folder)


def _run(decoder: Decoder, result: CompileResult, target: str, seed: int) -> RunCheck:
    return check_run(decoder, result.before, result.graph_module, target=target, seed=seed)


def _print(result: CompileResult, check: RunCheck | None, as_json: bool) -> None:
    assert result.backend is not None
    if as_json:
        print_json(_as_json(result, check))
        return
    if result.report is not None:
        print_summary(result.report)
    console = stdout()
    for further in _further(result):
        console.print(f"{further.name}: {_outcome(further)}")
    if check is not None:
        console.print(check.line)
    done = result.backend
    console.print(f"wrote {result.out_dir}: {done.backend}: {done.message}")
    if done.command is not None and done.exit_code is None:
        console.print(f"  cd {shlex.quote(str(result.out_dir))} && {shlex.join(done.command)}")


def _further(result: CompileResult) -> tuple[PassRun, ...]:
    """What the passes did whose report is not the one that comes first."""
    return tuple(run for run in result.pipeline.runs if run.report is None or run.report is not result.report)


def _outcome(run: PassRun) -> str:
    if run.disabled:
        return f"disabled by {DISABLE}"
    return "done" if run.report is None else run.report.headline


def _as_json(result: CompileResult, check: RunCheck | None) -> dict[str, Any]:
    assert result.backend is not None
    return {
        "out": str(result.out_dir),
        "report": None if result.report is None else result.report.to_dict(),
        "further": {run.name: None if run.report is None else run.report.to_dict() for run in _further(result)},
        "backend": result.backend.to_dict(),
        "run": None if check is None else check.to_dict(),
    }
