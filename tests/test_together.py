"""Training by several processes: the losses, gradients and weights are those of one."""

import multiprocessing
import os
import pickle
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from test_remining import ANCHORS as REMINED_FROM
from test_remining import ROWS, SAMPLING, TEXTS
from tiny_models import static_model, xlm_roberta

from monoglot.errors import RunError
from monoglot.learning import precision, sub_batches, together, training
from monoglot.learning.devices import training_devices
from monoglot.learning.encoder import Encoder
from monoglot.learning.learned import Learned
from monoglot.learning.material import Material
from monoglot.learning.objectives import OBJECTIVES, training_loss
from monoglot.learning.pairs import Partners, make_triplets
from monoglot.learning.passes import Passes
from monoglot.learning.ranks import Ranks
from monoglot.learning.remining import Remined
from monoglot.learning.together import fine_tune_on
from monoglot.learning_config import TrainingConfig

ANCHORS = REMINED_FROM.with_columns(language=pl.lit("hi-Latn"), origin=pl.lit("translated"))
# Nine anchors: batches of 4, 4 and 1; every label more than once in most of them.
CONFIG = TrainingConfig(epochs=4, batch_size=4, learning_rate=1e-3, objective="both")
CASES = [
    *({"objective": objective} for objective in sorted(OBJECTIVES)),
    {"objective": "both", "gradient_cache": True},
    {"objective": "guided", "learn_temperature": True, "matryoshka_dimensions": (8,)},
    {"objective": "supervised", "english_replay": False, "spelling_noise": 1.0},
]


def drawn(*, epochs=1):
    sampling = SAMPLING.model_copy(update={"remine": False})
    encode = Encoder.load("base").encode
    return make_triplets(ANCHORS, ROWS, None, sampling, epochs=epochs, seed=3, encode=encode)


def measured(base, settings, triplets, ranks):
    """Loss and gradients of the first step of a training."""
    encoder = Encoder.load(base)
    config = TrainingConfig(batch_size=6, **settings)
    material = Material(encoder, ANCHORS, ROWS, triplets, config, respelt=ANCHORS["query_id"])
    step, given = material.at(0), Passes(encoder, material.texts, ranks)
    learned = Learned(encoder, config)
    backward = given.backward_cached if config.gradient_cache else given.backward
    loss = backward(
        step.positions,
        lambda vectors: training_loss(step.batch(vectors), learned.temperature, config),
    )
    learned.agree(ranks)
    found = learned.state.model.named_parameters()
    gradients = {name: its.grad.numpy() for name, its in found if its.grad is not None}
    return loss.item(), gradients, given.encoded


class Killed(BaseException):
    pass


def killed_at(step, done, of):
    if done == step:
        raise Killed


def tuned(run, folder, base, triplets, *, on_step=None, partners=None):
    """The log of a training, and the weights it ends with."""
    encoder = Encoder.load(str(base))
    folder.mkdir(exist_ok=True)
    log = run(
        encoder, ANCHORS, ROWS, triplets, CONFIG, scratch=folder, on_step=on_step, partners=partners
    )
    return log, encoder.model.state_dict()


def one_of_two(rank, folder, triplets):
    """A process of two: the first step of every case, and a training that is interrupted."""
    torch.set_num_threads(1)
    precision._is_faster = lambda _run: False  # as in the test's own process
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    ranks = Ranks(rank, 2)
    sub_batches.SIZES["cpu"] = sub_batches.Size(most=3, overhead=1)
    training._SECONDS_BETWEEN_CHECKPOINTS = 0.0
    base = {name: str(folder / name) for name in ("transformer", "static")}
    found = [measured(base["transformer"], settings, triplets, ranks) for settings in CASES]
    found.append(measured(base["static"], CASES[0], triplets, ranks))
    lonely = [Passes(Encoder.load(base["transformer"]), TEXTS[:1], ranks)]
    lonely[0].backward(np.array([0]), lambda vectors: (vectors * torch.arange(32)).sum())
    weights = lonely[0].encoder.model.named_parameters()
    found.append({name: its.grad.numpy() for name, its in weights if its.grad is not None})
    (folder / f"found-{rank}").write_bytes(pickle.dumps(found))
    try:
        run = partial(training.fine_tune, ranks=ranks)
        tuned(run, folder / "shared", base["transformer"], triplets, on_step=partial(killed_at, 6))
    except Killed:
        torch.distributed.destroy_process_group()


def close(one, other):
    """Equal but for the rounding of sums in another order."""
    largest = max(float(np.abs(values).max()) for values in one.values())
    assert largest > 1e-3
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert np.allclose(values, other[name], rtol=1e-4, atol=2e-6 * largest), name


def same_training(one, other):
    """The steps' losses and the final weights agree."""
    (log, weights), (other_log, others) = one, other
    assert other_log.steps["loss"].to_list() == pytest.approx(log.steps["loss"].to_list(), rel=1e-3)
    assert other_log.steps.drop("loss").equals(log.steps.drop("loss"))
    for name, values in weights.items():
        # Adam gives a gradient that is nothing but rounding, as a key's bias has, a whole step.
        if not name.endswith("key.bias"):
            assert torch.allclose(values, others[name], atol=5e-5), name


@pytest.fixture
def bases(tmp_path, monkeypatch):
    xlm_roberta(tmp_path / "transformer", TEXTS)
    static_model(tmp_path / "static", TEXTS)
    (tmp_path / "base").symlink_to(tmp_path / "transformer")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_ranks_take_the_steps_of_one(bases, monkeypatch):
    triplets = drawn(epochs=4)
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=one_of_two, args=(rank, bases, triplets)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join()
        assert process.exitcode == 0
    found = [pickle.loads((bases / f"found-{rank}").read_bytes()) for rank in (0, 1)]
    kinds = [*(("transformer", settings) for settings in CASES), ("static", CASES[0])]
    for place, (kind, settings) in enumerate(kinds):
        loss, gradients, encoded = measured(str(bases / kind), settings, triplets, Ranks())
        for rank in (0, 1):
            its, shared, texts = found[rank][place]
            assert its == pytest.approx(loss, rel=1e-5), settings
            assert texts == encoded
            close(gradients, shared)
        for name, values in found[0][place][1].items():
            assert np.array_equal(values, found[1][place][1][name]), name
    # A step of one text: the other rank has none, and has the gradients all the same.
    alone = Passes(Encoder.load(str(bases / "transformer")), TEXTS[:1])
    alone.backward(np.array([0]), lambda vectors: (vectors * torch.arange(32)).sum())
    weights = alone.encoder.model.named_parameters()
    expected = {name: its.grad.numpy() for name, its in weights if its.grad is not None}
    for rank in (0, 1):
        close(expected, found[rank][-1])

    # What two began, one ends: with the weights that one alone would have.
    whole = tuned(training.fine_tune, bases / "whole", bases / "transformer", triplets)
    resumed = tuned(training.fine_tune, bases / "shared", bases / "transformer", triplets)
    assert resumed[0].resumed_at == 5
    same_training(whole, resumed)


@pytest.mark.slow
def test_processes_of_their_own_go_on_where_one_was_killed(bases, monkeypatch):
    on_two = partial(fine_tune_on, devices=("cpu", "cpu"))
    partners = Partners(ANCHORS, ROWS, None, SAMPLING, epochs=4, seed=0)
    first = drawn()

    def remined(name):
        (bases / name).mkdir()
        return Remined(partners, bases / name)

    base = bases / "transformer"
    whole = tuned(training.fine_tune, bases / "whole", base, first, partners=remined("whole"))
    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    shared = remined("shared")
    kill = partial(killed_at, 5)
    with pytest.raises(Killed):
        tuned(training.fine_tune, bases / "shared", base, first, on_step=kill, partners=shared)
    seen = []
    resumed = tuned(
        on_two,
        bases / "shared",
        base,
        first,
        on_step=lambda done, of: seen.append((done, of)),
        partners=shared,
    )
    assert resumed[0].resumed_at == 4
    assert seen == [(done, 12) for done in range(5, 13)]
    same_training(whole, resumed)
    assert shared.drawn().equals(Remined(partners, bases / "whole").drawn())
    assert not list((bases / "shared").glob("trained*"))


def says(mouth, words, *, aborts=False):
    """A rank that ends with some words."""
    for it in words:
        mouth.send(it)
    if aborts:
        os.abort()


@pytest.mark.parametrize(
    ("first", "second", "aborts", "told"),
    [
        ([RunError("the loss is nan")], [], True, "the loss is nan"),
        (
            [together._Failure(RunError("connection closed"), 2.0)],
            [RunError("the loss is nan")],
            False,
            "the loss is nan",
        ),
        (
            [(1, 9), together._Failure(RunError("connection closed"), 2.0)],
            [together._Failure(RunError("out of memory"), 1.0)],
            False,
            "out of memory",
        ),
        ([(1, 9), (2, 9)], [], False, "without a word"),
        ([together._Failure(RunError("connection closed"), 2.0)], [], True, "killed by SIGABRT"),
    ],
)
def test_the_cause_is_told_whoever_is_heard_first(first, second, aborts, told):
    context, ranks = multiprocessing.get_context("spawn"), {}
    for words, ends in ((first, aborts), (second, False)):
        ear, mouth = context.Pipe(duplex=False)
        ranks[ear] = context.Process(target=says, args=(mouth, words), kwargs={"aborts": ends})
        ranks[ear].start()
        mouth.close()
    for process in ranks.values():
        process.join()
    with pytest.raises(RunError, match=told):
        together._listen(ranks, ("cpu", "cpu"), lambda _done, _of: None)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others_and_is_named(bases):
    def kill_one(done, of):
        if done == 2:
            multiprocessing.active_children()[0].kill()

    triplets = drawn(epochs=4)
    with pytest.raises(RunError, match=r"the process on cpu was killed by SIGKILL.*Run again"):
        tuned(
            partial(fine_tune_on, devices=("cpu", "cpu")),
            bases / "run",
            bases / "transformer",
            triplets,
            on_step=kill_one,
        )
    assert not multiprocessing.active_children()
    # An error that a process raises on purpose arrives as it is.
    wild = CONFIG.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(RunError, match=r"the loss is nan at step \d+ of 12\. Lower"):
        fine_tune_on(
            Encoder.load(str(bases / "transformer")),
            ANCHORS,
            ROWS,
            triplets,
            wild,
            devices=("cpu", "cpu"),
            scratch=bases / "run",
        )


@pytest.mark.parametrize(
    ("setting", "number", "devices"),
    [
        ("", 0, [""]),
        ("", 1, [""]),
        ("", 2, ["cuda:0", "cuda:1"]),
        ("cuda", 2, ["cuda:0", "cuda:1"]),
        ("cuda:1", 2, ["cuda:1"]),
        ("cpu", 2, ["cpu"]),
    ],
)
def test_all_gpus_train_unless_one_device_is_named(monkeypatch, setting, number, devices):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    assert training_devices(setting) == devices
