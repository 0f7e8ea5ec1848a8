"""Training on several devices: a process for each, watched by this one.

The processes are started anew (a GPU's state survives no fork) and are handed the inputs as they
are; what they exchange at each step is in `ranks`. Where one of them ends, however it does, the
others wait for it in vain: this process ends them and says why. The checkpoint is the first rank's,
and is read by as many ranks as the next start has.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from monoglot.errors import MonoglotError, RunError
from monoglot.learning.encoder import Encoder
from monoglot.learning.material import PartnersOf
from monoglot.learning.ranks import Ranks
from monoglot.learning.training import OnStep, TrainingLog, fine_tune
from monoglot.learning_config import TrainingConfig

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

_WEIGHTS = "trained.safetensors"
_GOES_ON = "Run again: it goes on at its last checkpoint."
# A rank waits for the others as long as they live, which the watching process knows; the first one
# mines for minutes while the others wait.
_PATIENCE = timedelta(days=7)
_SECONDS_TO_END = 2.0


@dataclass(frozen=True)
class _Inputs:
    """What `fine_tune` takes, as each process is handed it; the encoder by what loads it."""

    model: str
    prefix: str
    max_tokens: int | None
    tables: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]
    config: TrainingConfig
    scratch: Path
    options: dict[str, Any]
    devices: tuple[str, ...]
    meeting: str


@dataclass(frozen=True)
class _Failure:
    """An error that no code of ours raised: that another rank is gone may be all it tells.

    Attributes:
        error: to be raised.
        at: when it was caught, in seconds since the epoch.
    """

    error: RunError
    at: float


def fine_tune_on(
    encoder: Encoder,
    anchors: pl.DataFrame,
    rows: pl.DataFrame,
    triplets: pl.DataFrame,
    config: TrainingConfig,
    *,
    devices: Sequence[str],
    scratch: Path,
    respelt: Collection[str] = (),
    on_step: OnStep | None = None,
    partners: PartnersOf | None = None,
) -> TrainingLog:
    """As `training.fine_tune`, on several devices: the same weights but for rounding.

    Args:
        encoder: the base model; its weights are changed when the training is over.
        anchors: as there.
        rows: as there.
        triplets: as there.
        config: as there.
        devices: a process is started for each, as `cuda:1`; one device: none is, and the encoder's
            own is used.
        scratch: as there; on a disk that the processes share, as those of one machine do.
        respelt: as there.
        on_step: called in this process.
        partners: sent to the processes; must keep in a file what it has drawn.

    Raises:
        ConfigError, DataError: as there.
        RunError: as there, or a process has died.
    """
    options: dict[str, Any] = {"respelt": frozenset(respelt), "partners": partners}
    if len(devices) == 1:
        return fine_tune(
            encoder, anchors, rows, triplets, config, scratch=scratch, on_step=on_step, **options
        )
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        given = _Inputs(
            model=encoder.name,
            prefix=encoder.prefix,
            max_tokens=encoder.model.max_seq_length,
            tables=(anchors, rows, triplets),
            config=config,
            scratch=scratch,
            options=options,
            devices=tuple(devices),
            meeting=str(Path(folder) / "meeting"),
        )
        log = _trained(given, on_step or (lambda _done, _of: None))
    encoder.model.load_state_dict(load_file(scratch / _WEIGHTS))
    (scratch / _WEIGHTS).unlink()
    return log


def _trained(given: _Inputs, on_step: OnStep) -> TrainingLog:
    """Start the processes, listen to them until all are done, and leave none behind."""
    context = multiprocessing.get_context("spawn")
    ranks: dict[Connection, SpawnProcess] = {}
    try:
        for rank in range(len(given.devices)):
            ear, mouth = context.Pipe(duplex=False)
            process = context.Process(target=_rank, args=(given, rank, mouth), daemon=True)
            process.start()
            mouth.close()  # the process has the only other end, which its death closes
            ranks[ear] = process
        return _listen(ranks, given.devices, on_step)
    finally:
        for process in ranks.values():
            process.kill()
            process.join()


def _listen(
    ranks: "dict[Connection, SpawnProcess]", devices: Sequence[str], on_step: OnStep
) -> TrainingLog:
    """The first rank's log, when all are done."""
    logs: dict[Connection, TrainingLog] = {}
    while len(logs) < len(ranks):
        for ear in wait([ear for ear in ranks if ear not in logs]):
            assert isinstance(ear, Connection)
            said = _heard(ear)
            if said is None or isinstance(said, MonoglotError | _Failure):
                raise _cause(said, [it for it in ranks if it is not ear], ranks, devices)
            if isinstance(said, TrainingLog):
                logs[ear] = said
            else:
                on_step(*said)
    return logs[next(iter(ranks))]


def _heard(ear: Connection) -> Any:
    """What a rank says; None: it has ended without a word."""
    try:
        return ear.recv()
    except EOFError:
        return None


def _cause(
    first: MonoglotError | _Failure | None,
    others: Sequence[Connection],
    ranks: "dict[Connection, SpawnProcess]",
    devices: Sequence[str],
) -> MonoglotError:
    """Why a training ended: where one rank ends, the others complain of what they miss from it."""
    said = [first, *_last_words(others)]
    for on_purpose in said:
        if isinstance(on_purpose, MonoglotError):
            return on_purpose
    if (death := _death(ranks, devices)) is not None:
        return death
    failures = sorted((it for it in said if isinstance(it, _Failure)), key=lambda it: it.at)
    silent = RunError(f"fine_tuning: a process ended without a word. {_GOES_ON}")
    return failures[0].error if failures else silent


def _last_words(ears: Sequence[Connection]) -> list[Any]:
    """What ranks say beside how far they are, until all have ended or none speaks."""
    words, speaking = [], list(ears)
    while speaking and (ready := wait(speaking, _SECONDS_TO_END)):
        for ear in ready:
            assert isinstance(ear, Connection)
            if not isinstance(it := _heard(ear), tuple):
                words.append(it)
                speaking.remove(ear)
    return words


def _death(ranks: "dict[Connection, SpawnProcess]", devices: Sequence[str]) -> RunError | None:
    """What to say of a process that was ended, not of one that ended itself; None: all do well."""
    ending = wait([process.sentinel for process in ranks.values()], _SECONDS_TO_END)
    for device, process in zip(devices, ranks.values(), strict=True):
        if process.sentinel in ending:
            process.join(_SECONDS_TO_END)  # its files are closed before it has an exit code
        code = process.exitcode
        if code:
            by = (
                f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
            )
            hint = " (the machine's memory may have run out)" if code == -signal.SIGKILL else ""
            return RunError(f"fine_tuning: the process on {device} {by}{hint}. {_GOES_ON}")
    return None


def _rank(given: _Inputs, rank: int, mouth: Connection) -> None:
    """One process from start to end: says how far it is, and at last its log or its error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the watching process's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        mouth.send(_train(given, rank, mouth.send))
        return
    except MonoglotError as error:
        mouth.send(error)
    except BaseException as error:  # whatever it is, the watching process is to tell it
        reason = (str(error).strip() or "it says no more").splitlines()[0][:200]
        failed = RunError(
            f"fine_tuning: the process on {given.devices[rank]} failed "
            f"({type(error).__name__}: {reason}). {_GOES_ON}"
        )
        failed.add_note(traceback.format_exc())
        mouth.send(_Failure(failed, time.time()))
    # The group's threads still wait for the other ranks: the interpreter's end would abort on them.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _train(given: _Inputs, rank: int, say: Callable[[object], None]) -> TrainingLog:
    """`fine_tune` as one of the ranks; the first writes the weights."""
    import torch
    from safetensors.torch import save_file

    device, number = given.devices[rank], len(given.devices)
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // number))
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{given.meeting}",
        rank=rank,
        world_size=number,
        timeout=_PATIENCE,
    )
    encoder = Encoder.load(
        given.model, device=device, max_tokens=given.max_tokens, query_prefix=given.prefix
    )
    ranks = Ranks(rank, number)
    log = fine_tune(
        encoder,
        *given.tables,
        given.config,
        scratch=given.scratch,
        on_step=(lambda done, of: say((done, of))) if ranks.first else None,
        ranks=ranks,
        **given.options,
    )
    if ranks.first:
        weights = encoder.model.state_dict().items()
        # Tied weights share memory, which safetensors refuses.
        save_file({k: v.cpu().clone() for k, v in weights}, given.scratch / _WEIGHTS)
    torch.distributed.destroy_process_group()
    return log


def _end_with_parent() -> None:
    """A process that is killed cannot end its own: each of them watches for it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
