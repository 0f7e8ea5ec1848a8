"""Questions in the knowledge base's language: bought once, and planned as they will be read."""

import polars as pl
from llm_server import Fault, LLMServer

from monoglot.config import Config
from monoglot.contracts import Queries, empty
from monoglot.generation.query_translation import pending_questions, translate_questions


def test_questions_that_mean_the_same_are_answered_by_the_plan_as_by_the_run(ledger, tmp_path):
    """Three ways to ask have one English wording; of rows it would be an order that one gave."""
    texts = ("alarm band karo", "alarm band kardo", "alarm ko band karo")
    questions = pl.DataFrame(
        [
            dict.fromkeys(Queries.column_names())
            | {"query_id": text, "text": text, "language": "hi-Latn", "label": "alarm"}
            | {"origin": "native"}
            for text in texts
        ],
        schema=empty(Queries).schema,
    )
    said = Fault("same", rows=lambda rows: [{**row, "text": "turn off the alarm"} for row in rows])
    with LLMServer(faults=[said]) as server:
        config = Config(
            knowledge_base={"path": tmp_path / "kb.csv"}, generation={"model": "gpt-4o-mini"}
        )
        told = {"settings": server.settings(), "ledger": ledger}

        def plan():
            return pending_questions(questions, "hi-Latn", config, **told)

        assert (plan().rows, plan().requests) == (3, 1)
        made = translate_questions(
            questions,
            "hi-Latn",
            config.generation,
            kb_language="en",
            redaction=config.redaction,
            **told,
        )
        assert made.rows["text"].to_list() == ["turn off the alarm"] * 3
        assert (plan().rows, plan().from_ledger, plan().requests) == (0, 3, 0)
        assert len(server.requests) == 1
