"""The command line: `monoglot demo | init | plan | run | refresh | search | evaluate | ...`.

What is printed for people or programs goes to stdout, progress and errors to stderr. Exit code 0,
1 where the work failed, 2 where the input was bad. Heavy libraries are loaded by the commands that
need them: a run with nothing to do takes a second.
"""

import atexit
import dataclasses
import gc
import sys
from importlib import metadata, resources
from pathlib import Path
from typing import Annotated

import typer

from flows import operator_commands
from flows.console import make_console, print_json, show_line, stage_row
from flows.options import HERE, ConfigFile, Force, Json
from monoglot.errors import MonoglotError
from monoglot.generation.batch_records import outstanding_in
from monoglot.generation.shared_ledger import ledger_file, open_ledger
from monoglot.learning.grid import cells_of
from monoglot.learning.grids import read_grid
from monoglot.outstanding import Outstanding
from monoglot.runs import RunRecord, Runs
from monoglot.serving.approval import Awaiting
from monoglot.standing import Inputs, refuse_without_training_data, standing
from monoglot.store import Store
from tasks.request import AblationRequest, RunRequest, TuningRequest
from tasks.versions import versions
from tasks.workplace import REJECTS

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Answer queries in any language from a knowledge base kept in one.",
)
DEMO_QUESTIONS = (
    "mera parcel kahan pahuncha",
    "password bhul gaya hu",
    "coupon code lag nahi raha",
)


def _show_version(asked: bool) -> None:
    if asked:
        show_line(f"monoglot {metadata.version('monoglot')}")
        raise typer.Exit


@app.callback()
def monoglot(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show it and exit."),
    ] = False,
) -> None:
    """Answer queries in any language from a knowledge base kept in one."""


@app.command()
def demo(
    store: Annotated[Path, typer.Option(help="Where the demo keeps its results.")] = Path(
        "demo-store"
    ),
) -> None:
    """Run the whole line on the bundled sample and answer three Hinglish questions."""
    from flows import show
    from monoglot import Retriever

    sample = Path(str(resources.files("monoglot") / "sample" / "monoglot.yaml"))
    console, place = make_console(), store.resolve()
    record, _ = _retrain(RunRequest(config_file=sample, store=str(place)))
    assert isinstance(record, RunRecord)  # the sample asks no LLM
    show.run(console, Store.existing(str(place)), record)
    retriever = Retriever(place)
    found = retriever.search_many(DEMO_QUESTIONS, k=1)
    for text, answers in zip(DEMO_QUESTIONS, found, strict=True):
        show.answers(console, text, answers, retriever.release.abstention)


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="Where monoglot.yaml goes.")]) -> None:
    """Write a monoglot.yaml with every setting, its default and its help."""
    from flows.starter import write_starter

    path = write_starter(folder)
    show_line(f"{path}: edit it, then `monoglot plan -c {path}`.")


@app.command()
def plan(config: ConfigFile = HERE, as_json: Json = False) -> None:
    """Show what a run would do, and why: changed rows, LLM calls, tokens, price. Runs nothing."""
    from flows import show
    from monoglot.planning import make_plan

    wanted, settings = RunRequest(config_file=config).read_fetched()
    refuse_without_training_data(wanted, settings)
    store = Store.if_any(wanted.store)
    made = make_plan(Inputs.of(wanted, settings, versions()), wanted, settings, store)
    waits = Awaiting.of(store)
    if as_json:
        print_json(show.plan_as_json(made, waits))
    else:
        show.plan(make_console(), made, waits)


@app.command()
def run(config: ConfigFile = HERE, force: Force = False, as_json: Json = False) -> None:
    """Run the whole line: data, training, evaluation, gate, release. Reuses what is done."""
    from flows import show

    request = RunRequest(config_file=config, force=force)
    record, nothing = _retrain(request)
    store = Store.existing(request.read()[0].store)
    if isinstance(record, Outstanding):
        if as_json:
            print_json(show.run_as_json(store, None, None, record))
        else:
            show.waiting(make_console(), record)
    elif as_json:
        print_json(show.run_as_json(store, record, nothing))
    else:
        show.run(make_console(), store, record)


@app.command()
def batches(
    config: ConfigFile = HERE,
    stop: Annotated[
        bool,
        typer.Option(
            "--cancel",
            help="Have the endpoint stop them; what is answered is kept. Those out at another "
            "endpoint than the one that is set are given up.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the LLM batches that are out, or have them stopped."""
    from flows import show
    from monoglot.generation.batch_records import batches_in
    from monoglot.generation.batches import cancel

    wanted, settings = RunRequest(config_file=config).read()
    store = Store.existing(wanted.store)
    cancelled = None
    if stop and batches_in(ledger_file(store)):
        with store.writer(), open_ledger(store) as ledger:
            cancelled = cancel(settings, ledger)
    out = batches_in(ledger_file(store))
    if as_json:
        told = None if cancelled is None else cancelled._asdict()
        print_json({"batches": [dataclasses.asdict(batch) for batch in out], "cancelled": told})
    else:
        show.batches(make_console(), out, cancelled)


@app.command()
def refresh(config: ConfigFile = HERE, force: Force = False, as_json: Json = False) -> None:
    """Put a changed knowledge base into production with the model that is there."""
    from flows import show
    from monoglot.planning import why_no_refresh

    request = RunRequest(config_file=config, force=force)
    wanted, _ = request.read_fetched()
    nothing = why_no_refresh(wanted, Store.existing(wanted.store), force=force)
    record = None
    if nothing is None:
        from flows.running import run_refresh

        record = run_refresh(request, wanted, make_console(stderr=True))
    else:
        show_line(f"nothing to do: {nothing}", stderr=True)
    if as_json:
        print_json(show.run_as_json(Store.existing(wanted.store), record, nothing))


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="A question in any language.")],
    k: Annotated[int, typer.Option("-k", help="Labels to show.", min=1)] = 3,
    language: Annotated[
        str | None,
        typer.Option(help="Its BCP 47 code. Left out: the most careful threshold decides."),
    ] = None,
    config: ConfigFile = HERE,
    as_json: Json = False,
) -> None:
    """Ask the release in production."""
    from flows import show
    from monoglot import Retriever

    wanted, settings = RunRequest(config_file=config).read()
    retriever = Retriever(wanted.store, settings.device)
    found = retriever.search(text, k, language=language)
    if as_json:
        print_json(show.answers_as_json(retriever.release, text, found, language))
    else:
        show.answers(make_console(), text, found, retriever.release.abstention, language)


@app.command()
def evaluate(
    queries: Annotated[Path, typer.Option(help="File of text, language, label [, english].")],
    config: ConfigFile = HERE,
    as_json: Json = False,
) -> None:
    """Measure the release in production, and the untuned model beside it."""
    from flows import show
    from monoglot.measuring import measure_release

    wanted, settings = RunRequest(config_file=config).read()
    file = wanted.evaluation.model_copy(update={"path": queries})
    measured = measure_release(wanted, settings, file)
    if as_json:
        print_json(measured.as_json())
    else:
        show.measurement(make_console(), measured)


@app.command()
def quality(
    labelled: Annotated[
        Path | None,
        typer.Option(help="File of text, language [, english, ok]: measure the gates on it."),
    ] = None,
    config: ConfigFile = HERE,
    as_json: Json = False,
) -> None:
    """Show what the quality gates kept and dropped in the last run, with examples."""
    from flows.yields import show_yields, yields_as_json
    from monoglot.yields import measure_gates, yields_of

    wanted, _ = RunRequest(config_file=config).read()
    if labelled is not None:
        found = measure_gates(wanted, labelled)
    else:
        store = Store.existing(wanted.store)
        last = Runs(store).last_retrain()
        stages = () if last is None else last.stages
        found = yields_of(stages, lambda artifact: store.table(artifact, REJECTS))
    if as_json:
        print_json(yields_as_json(found))
    else:
        show_yields(make_console(), found)


@app.command()
def ablate(
    grid: Annotated[
        str,
        typer.Option(help="strategies, objectives, negatives, recipe, synthetic; or a YAML file."),
    ] = "strategies",
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Give it several times. Else the grid's.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Begin no further cell after this time.")
    ] = None,
    config: ConfigFile = HERE,
    as_json: Json = False,
) -> None:
    """Train every cell of a grid, and say which differences are real. Changes no release."""
    from flows.experiments import show_ablation
    from flows.running import run_ablation

    request = AblationRequest(
        config_file=config, grid=grid, seeds=tuple(seeds or ()), seconds=seconds
    )
    wanted, settings = request.read_fetched()
    refuse_without_training_data(wanted, settings)
    cells_of(*read_grid(grid, wanted))  # a wrong grid is refused before Prefect is loaded
    report = run_ablation(request, wanted, make_console(stderr=True))
    if as_json:
        print_json(report.as_json())
    else:
        show_ablation(make_console(), report, Store.existing(wanted.store).workshop)


@app.command()
def tune(
    seconds: Annotated[
        float, typer.Option(min=1, help="Time for the search; what decides comes on top.")
    ] = 3600.0,
    seed: Annotated[int, typer.Option(help="Of the candidates that are tried.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Leave monoglot.yaml alone.")] = False,
    config: ConfigFile = HERE,
    as_json: Json = False,
) -> None:
    """Look for a better recipe, and write it into monoglot.yaml if it is better beyond chance."""
    from flows.experiments import show_tuning
    from flows.running import run_tuning
    from monoglot.config_edit import edit_config

    request = TuningRequest(config_file=config, seconds=seconds, seed=seed)
    wanted, settings = request.read_fetched()
    refuse_without_training_data(wanted, settings)
    report = run_tuning(request, wanted, make_console(stderr=True))
    backup = None
    if report.adopted and not dry_run:
        backup = edit_config(config, report.changes, report.evidence)
    if as_json:
        print_json({**report.as_json(), "backup": None if backup is None else str(backup)})
    else:
        show_tuning(make_console(), report, Store.existing(wanted.store).workshop, backup)


for command in operator_commands.COMMANDS:
    app.command()(command)


def _retrain(request: RunRequest) -> tuple[RunRecord | Outstanding, str | None]:
    """Run the line, or find the run that makes it needless; and why nothing was done, or None.

    Where batches are out, the line runs in any case, to take in what has come back.

    What cannot end well is refused here, before a store is made or Prefect is loaded.
    """
    config, settings = request.read_fetched()
    refuse_without_training_data(config, settings)
    store = Store.if_any(config.store)
    done = None if store is None else standing(Inputs.of(config, settings, versions()), store)
    out = store is not None and settings.has_endpoint and outstanding_in(ledger_file(store))
    if done is not None and not request.force and not out:
        for stage in done.record.stages:
            make_console(stderr=True).print(stage_row(stage.reused()))
        show_line(f"nothing to do: {done.reason}", stderr=True)
        return done.record, done.reason
    from flows.running import run_retrain
    from monoglot.planning import refuse_unready

    refuse_unready(config, settings, store, force=request.force)
    return run_retrain(request, config, make_console(stderr=True)), None


def main() -> None:
    """Entry point of the `monoglot` command."""
    # Python collects garbage at its end: looking through torch and LanceDB takes a second and more.
    atexit.register(gc.freeze)
    try:
        app()
    except MonoglotError as error:
        make_console(stderr=True).print(f"monoglot: {error}", style="red", markup=False)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
