"""What the LLM costs, through the real command: the plan, the stop at a limit, and the rest."""

import sqlite3

import pytest
from llm_server import MODEL, LLMServer
from test_cli import apart, config_of
from tiny_line import write_line

from flows import show
from monoglot.config_file import load_config
from monoglot.planning import make_plan
from monoglot.runs import Runs
from monoglot.standing import Inputs
from monoglot.store import Store
from tasks.versions import versions

PRICES = {MODEL: {"input": 1.0, "output": 4.0}}
LANGUAGES = [{"code": code, "name": code} for code in ("hi-Latn", "es")]


@pytest.fixture
def server(prefect_api):
    with LLMServer() as started:
        started.prefect_api = prefect_api  # else each run would start a server of its own
        yield started


def line_with(folder, **spending):
    return write_line(
        folder,
        languages=LANGUAGES,
        fine_tuning={"epochs": 1},
        spending={"prices": PRICES} | spending,
    )


def command(server, *arguments):
    environment = server.environment | {
        "MONOGLOT_LLM_ROWS_PER_REQUEST": "4",
        "PREFECT_API_URL": server.prefect_api,
    }
    return apart(*arguments, **environment)


def plan_of(server, folder):
    """What `monoglot plan --json` prints, made in this process."""
    settings = server.settings(llm_rows_per_request=4)
    config = settings.applied_to(load_config(config_of(folder)))
    inputs = Inputs.of(config, settings, versions())
    return show.plan_as_json(make_plan(inputs, config, settings, Store.if_any(config.store)))


def spent(folder):
    with sqlite3.connect(folder / "store/ledger.sqlite") as database:
        [[usd]] = database.execute("SELECT sum(usd) FROM replies").fetchall()
    database.close()
    return usd


@pytest.mark.slow
def test_a_run_stops_below_half_of_its_plan_and_the_next_buys_only_the_rest(tmp_path, server):
    line_with(tmp_path)
    planned = plan_of(server, tmp_path)
    assert planned["usd"] == sum(request["usd"] for request in planned["requests"]) > 0
    line_with(tmp_path, max_usd=planned["usd"] / 2)
    assert "is likely to stop the run" in plan_of(server, tmp_path)["warnings"][-1]

    stopped = command(server, "run", "-c", config_of(tmp_path))
    assert stopped.returncode == 1
    for part in ("spending.max_usd = ", "which are kept", "rows of this stage are left", "higher"):
        assert part in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert planned["usd"] / 4 < spent(tmp_path) <= planned["usd"] / 2
    bought = dict(server.rows)
    left = plan_of(server, tmp_path)
    needed = sum(request["work"]["rows"] for request in planned["requests"])
    still = sum(request["work"]["rows"] for request in left["requests"])
    assert still == needed - sum(bought.values()) > 0

    line_with(tmp_path, max_usd=planned["usd"])
    ran = command(server, "run", "-c", config_of(tmp_path))
    assert ran.returncode == 0, ran.stderr
    assert set(server.rows.values()) == {2}  # once for each language
    assert spent(tmp_path) == pytest.approx(planned["usd"], rel=0.15)
    record = Runs(Store.existing(str(tmp_path / "store"))).last()
    page = (tmp_path / "store" / record.report).read_text(encoding="utf-8")
    assert "From the ledger" in page
    markup = "<td>translate es</td><td>done</td>"
    assert markup in page
    assert "unknown" not in page.partition("<h3>Spend</h3>")[2]


def test_a_limit_without_a_price_is_refused_before_anything_is_bought(tmp_path, server):
    line_with(tmp_path, prices={"another": PRICES[MODEL]}, max_usd=1.0)
    ran = command(server, "run", "-c", config_of(tmp_path))
    assert ran.returncode == 2
    assert f"the price of model '{MODEL}' is unknown" in ran.stderr
    assert "spending.prices" in ran.stderr
    assert server.requests == []
    assert not (tmp_path / "store").exists()
    shown = command(server, "plan", "-c", config_of(tmp_path)).stdout
    assert "unknown" in shown
    assert "a run is refused" in shown


def test_the_plan_for_people_shows_calls_tokens_price_and_what_is_paid_for(tmp_path, server):
    line_with(tmp_path)
    shown = command(server, "plan", "-c", config_of(tmp_path)).stdout
    heads = ("language", "rows", "calls", "tokens in", "tokens out", "price", "from ledger")
    assert all(head in shown for head in heads)
    planned = plan_of(server, tmp_path)
    [row] = [text.split() for text in shown.splitlines() if text.strip().startswith("es ")]
    work = planned["requests"][1]["work"]
    assert [int(cell.replace(",", "")) for cell in row[2:6]] == [
        work["rows"],
        work["requests"],
        work["prompt_tokens"],
        work["completion_tokens"],
    ]
    assert row[6].startswith("$0.")
    assert row[7] == "0%"
    assert "Price in all: $0." in shown
    assert "a first guess" in shown
