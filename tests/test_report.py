"""The page and the text of a run: what they say, what they leave out, and that data stays data."""

import dataclasses
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import polars as pl
import pytest

from monoglot.contracts import Findings, Gaps, Outcomes, Rejects, empty
from monoglot.generation.replies import Usage
from monoglot.learning.bootstrap import Interval
from monoglot.learning.gate import Decision, Guarded, Measured
from monoglot.learning.projection import ROWS
from monoglot.learning.thresholds import Abstention, Threshold
from monoglot.report import RunReport, Spend, headline_plot, render_html, render_markdown
from monoglot.runs import StageRecord
from monoglot.store import Artifact, Key

HOSTILE = "\"'><script>alert(1)</script><img src=//evil/x onerror=alert(1)>![x](https://evil/y)|`a`"
VOID = {"meta", "br", "wbr", "img", "link", "input", "hr"}


def outcomes(ranks, *, language="hi-Latn", label="refund_me", text="paisa wapas", prefix="q"):
    """Outcomes of a question a rank, with an English control that is always right."""
    count = len(ranks)

    def rows(places, control):
        return {
            "query_id": [f"{prefix}{number}" for number in range(count)],
            "control": [control] * count,
            "language": [language] * count,
            "text": [f"{'money back' if control else text} {number}" for number in range(count)],
            "label": [label] * count,
            "group": [f"{prefix}{number}" for number in range(count)],
            "known": [True] * count,
            "rank": list(places),
            "top_labels": [[label] if rank == 1 else ["track", label] for rank in places],
            "top_row": ["r1"] * count,
            "top_query": ["where is my parcel"] * count,
            "top_score": [0.5] * count,
            "top_share": [1.0] * count,
        }

    schema = empty(Outcomes).schema
    return pl.concat(
        [
            pl.DataFrame(rows(ranks, False), schema=schema),
            pl.DataFrame(rows([1] * count, True), schema=schema),
        ]
    )


def stage(title, outcome="done", seconds=1.0):
    return StageRecord(
        title=title,
        key=Key(stage="s", version=1, digest="d"),
        outcome=outcome,
        reason="new",
        rows=1234,
        seconds=seconds,
        artifact=Artifact(stage="s", digest="d", location="l", rows=1234, facts={"rejected": 5678}),
    )


def rejects(**columns):
    row = {"file": "kb.csv", "row": 7, "column": "query", "value": "", "rule": "empty"}
    row |= {"reason": "the query is empty"} | columns
    return pl.DataFrame([row], schema=empty(Rejects).schema)


def points(*series):
    return pl.DataFrame(
        {
            "series": ["knowledge base", *series],
            "x": [0.0, *range(len(series))],
            "y": [0.0] * (len(series) + 1),
            "cosine": [None, *[0.75] * len(series)],
        },
        schema_overrides={"cosine": pl.Float64},
    )


REPORT = RunReport(
    title="Help centre",
    facts={"Base model": "offline-minilm"},
    systems={
        "Untuned model": outcomes([2, 2, 0, 1]),
        "TF-IDF": outcomes([0, 0, 0, 1]),
        "Tuned model": outcomes([1, 1, 2, 2]),
    },
    baseline="Untuned model",
    candidate="Tuned model",
    evaluated_on="the evaluation file",
    decision=Decision("promoted", ("It is better.", "English was not checked.")),
    steps=pl.DataFrame({"step": [1, 2], "epoch": [1, 2], "loss": [2.0, 1.0]}),
    before=points("hi-Latn"),
    after=points("hi-Latn"),
    rejects=rejects(),
    stages=[stage("load"), stage("split", "reused", 61.0)],
    spend=(
        Spend("translate hi-Latn", False, 200, 150, Usage(5, 1000, 400, 30, 0, 0.25, 2)),
        Spend("translate es", True, 80, 0, Usage(8, 9000, 4000)),
    ),
    warnings=("Two labels have one row.",),
)


class Page(HTMLParser):
    """The elements, attributes and text of a page, and whether its tags are balanced."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_page_says_what_the_run_found():
    text = Page(render_html(REPORT)).text
    for words in (
        "Help centre",
        "✓ Promoted It is better. English was not checked.",
        "Two labels have one row.",
        "Right label first (hit@1) 50% Untuned model: 25%",
        "Mean reciprocal rank 0.750 Untuned model: 0.500 difference +0.250",
        "Cost of the language 0.250",
        "Questions 4 from the evaluation file",
        "As users write them Untuned model 0.500",
        "The same questions in English (control) Untuned model 1.000",
        "Each of 2 steps",
        "hi-Latn: mean cosine 0.750",
        "✓ 2 won",
        "✕ 1 lost",
        "paisa wapas 0 money back 0",
        "kb.csv empty the query is empty 1 7 empty",
        "1 min 2 s in all; 1 of 2 stages reused.",
        "split reused 1,234 5,678 1 min 1 s new",
        "translate hi-Latn done 200 75%",
    ):
        assert words in text, words


def test_labels_and_confusions_of_the_candidate():
    text = Page(render_html(REPORT)).text
    assert "refund_ me 4 2 0.500" in text  # broken after an underscore, where it may wrap
    assert "refund_ me track 2 50% paisa wapas 2 where is my parcel" in text
    assert 'aria-label="0.250 before, 0.500 now"' in render_html(REPORT)


def test_page_needs_nothing_beside_it():
    html = render_html(REPORT)
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(page.tags)
    urls = [value for name, value in page.attributes if name in ("href", "src", "xlink:href")]
    assert urls
    assert all(url.startswith("#") for url in urls)
    ids = [value for name, value in page.attributes if name == "id"]
    assert {url[1:] for url in urls} <= set(ids)
    assert len(ids) == len(set(ids))
    assert "url(" not in html
    assert "@import" not in html


def threshold(**changes):
    given = {"score": 0.61, "certain": True, "questions": 900, "out_of_scope": 1200}
    given |= {"coverage": 0.74, "wrong": 0.031, "at_most": 0.048, "caught": 0.93}
    return Threshold(**given | changes)


def gated_report(language="hi-Latn", guard="clinc150"):
    """A report with thresholds, a risk-coverage curve and guards."""
    few = {"certain": False, "pooled": True, "questions": 12, "at_most": 0.3}
    lost = Measured(4500, 0.88, 0.9, Interval(-0.02, -0.03, -0.01, 4500))
    return dataclasses.replace(
        REPORT,
        decision=Decision(
            "rejected",
            ("A guard lost.",),
            (
                Guarded(guard, 0.01, {"the untuned model": 0.9}, "the untuned model", lost),
                Guarded("es", 0.01),
            ),
        ),
        thresholds=Abstention(
            max_wrong=0.05,
            out_of_scope_share=0.1,
            overall=threshold(),
            languages={
                language: threshold(),
                "es": threshold(**few),
                "ta": threshold(score=None, coverage=0.0, wrong=None, at_most=1.0, caught=1.0),
            },
        ),
        risk=pl.DataFrame(
            {
                "language": [language] * 3 + ["all"] * 2,
                "threshold": [0.9, 0.61, 0.2, 0.9, 0.2],
                "coverage": [0.1, 0.74, 1.0, 0.1, 1.0],
                "rate": [0.0, 0.031, 0.12, 0.0, 0.2],
            }
        ),
    )


def test_page_says_when_the_release_does_not_know():
    html = render_html(gated_report())
    text = Page(html).text
    for words in (
        "at most 5.0% answered wrongly, where 10% of all queries are out of scope",
        "hi-Latn 900 0.610 74% 3.1% 4.8% 93% of 1,200 reached",
        "es 12 0.610 74% 3.1% 30.0% 93% of 1,200 too few questions: that of all languages",
        "ta 900 \N{EN DASH} 0% \N{EN DASH} 100.0% 100% of 1,200 not reached",
        "the most careful one decides: \N{EN DASH}",
        "asked for: 0.05",
    ):
        assert words in text, words
    assert html.count("<circle") >= 2
    assert '<a href="#abstention">' in html
    alone = gated_report()
    thresholds = alone.thresholds.model_copy(update={"out_of_scope_share": 0.0})
    page = Page(render_html(dataclasses.replace(alone, thresholds=thresholds))).text
    assert "No out-of-scope queries were given" in page
    assert "When it does not know" not in Page(render_html(REPORT)).text


def test_of_many_languages_those_with_the_most_questions_are_drawn():
    few = gated_report()
    languages = {f"x{n}": threshold(questions=100 * n) for n in range(1, 8)}
    points = pl.DataFrame(
        {
            "series": [ROWS] + [f"x{n}" for n in range(1, 8) for _ in range(n)],
            "x": [float(n) for n in range(29)],
            "y": 1.0,
            "cosine": None,
        },
        schema_overrides={"cosine": pl.Float64},
    )
    many = dataclasses.replace(
        few,
        thresholds=few.thresholds.model_copy(update={"languages": languages}),
        before=points,
        after=points,
    )
    html = render_html(many)
    told = "Drawn are the 5 languages with the most questions, of 7."
    assert Page(html).text.count(told) == 2  # risk and coverage, and the projections
    key = re.findall(r"<li><i[^>]*></i>(.*?)</li>", html)
    assert [sum(f"x{n}" in line for line in key) for n in range(1, 8)] == [0, 0, 2, 2, 2, 2, 2]
    assert told not in Page(render_html(few)).text


def test_page_and_summary_show_every_guard():
    text = Page(render_html(gated_report())).text.replace("\N{MINUS SIGN}", "-")
    assert "clinc150 4,500 0.900 the untuned model 0.880 -0.020 -0.030 to -0.010 0.010" in text
    dash = "\N{EN DASH}"
    assert f"✕ lost more es 0 {dash} {dash} {dash} 0.010 not checked" in text
    assert "What must not get worse" not in Page(render_html(REPORT)).text
    summary = render_markdown(gated_report()).replace("\N{MINUS SIGN}", "-")
    assert "| clinc150 | 4,500 | 0.900 | 0.880 | -0.020 (-0.030 to -0.010) | 0.010 |" in summary
    assert "| hi-Latn | 900 | 0.610 | 74% | 3.1% | 4.8% | 93% | reached |" in summary


def hostile_report():
    bad = outcomes([2, 2], language=HOSTILE, label=HOSTILE, text=HOSTILE)
    bad = bad.with_columns(top_query=pl.lit(HOSTILE), top_labels=pl.lit([HOSTILE + "2"]))
    return dataclasses.replace(
        gated_report(HOSTILE, HOSTILE),
        title=HOSTILE,
        facts={HOSTILE: HOSTILE},
        systems={"Untuned model": bad, "Tuned model": bad},
        evaluated_on=HOSTILE,
        decision=dataclasses.replace(gated_report(guard=HOSTILE).decision, reasons=(HOSTILE,)),
        before=points(HOSTILE),
        after=points(HOSTILE),
        rejects=rejects(file=HOSTILE, value=HOSTILE, rule=HOSTILE, reason=HOSTILE),
        stages=[stage(HOSTILE)],
        spend=(Spend(HOSTILE, False, 1, 0, Usage(1)),),
        warnings=(HOSTILE,),
    )


def test_what_users_wrote_is_text_in_the_page():
    page = Page(render_html(hostile_report()))
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count("<script>alert(1)</script>") > 10


def test_what_users_wrote_is_text_in_markdown():
    markdown = render_markdown(hostile_report())
    assert not re.search(r"(?<!\\)<|(?<!\\)`|(?<!\\)\[|(?<!\\)!", markdown)
    assert "https://" not in markdown
    for line in markdown.splitlines():
        if line.startswith("| ") and "---" not in line:
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) in (6, 7, 9, 10), line  # tables of rejects, labels, results and spend


def test_what_users_wrote_is_text_in_the_picture():
    bad = hostile_report()
    bad = dataclasses.replace(
        bad, systems={HOSTILE: bad.systems["Tuned model"]}, baseline=HOSTILE, candidate=HOSTILE
    )
    tree = ET.fromstring(headline_plot(bad))
    assert not [node for node in tree.iter() if node.tag.endswith(("script", "img", "image"))]


def test_spend_is_shown_by_stage_and_an_unknown_price_as_unknown():
    text = Page(render_html(REPORT)).text
    assert (
        "This run bought 5 replies for $0.25; 2 more requests were lost on the way and may be "
        "charged for."
    ) in text
    assert "translate hi-Latn done 200 75% 5 1,000 30 400 $0.25" in text
    assert "translate es reused 80 0% 8 9,000 0 4,000 unknown" in text
    markdown = render_markdown(REPORT)
    assert "| translate hi-Latn | done | 200 | 75% | 5 | 1,000 | 400 | $0.25 |" in markdown
    assert "| translate es | reused | 80 | 0% | 8 | 9,000 | 4,000 | unknown |" in markdown
    assert "This run bought 5 replies for $0.25." in markdown


def test_other_scripts_take_their_own_direction():
    arabic = outcomes([1, 2], language="ar", text="أين طلبي")
    html = render_html(
        dataclasses.replace(REPORT, systems={"Untuned model": arabic, "Tuned model": arabic})
    )
    assert '<bdi dir="auto">أين طلبي 1</bdi>' in html


def test_a_table_by_language_where_there_are_several():
    def both(first, second):
        return pl.concat([outcomes(first), outcomes(second, language="ar", prefix="a")])

    several = dataclasses.replace(
        REPORT, systems={"Untuned model": both([2], [2]), "Tuned model": both([1], [2])}
    )
    assert "By language (MRR) " in Page(render_html(several)).text
    assert "ar 1 0.500 0.500 0.500 to 0.500 +0.000" in Page(render_html(several)).text
    assert "By language" not in render_html(REPORT)


def test_a_report_without_anything_to_show_still_renders():
    nothing = dataclasses.replace(
        REPORT,
        systems={name: table.clear() for name, table in REPORT.systems.items()},
        decision=Decision("rejected", ("Nothing was measured.",)),
        steps=None,
        before=None,
        after=None,
        rejects=empty(Rejects),
        stages=(),
        spend=(),
        warnings=(),
    )
    text = Page(render_html(nothing)).text
    assert "✕ Rejected Nothing was measured." in text
    assert "This run trained no model." in text
    assert "Nothing was rejected." in text
    assert "No LLM was asked." in text
    assert "Won and lost" not in text
    assert render_markdown(nothing).strip() == "# Rejected: Help centre\n\n- Nothing was measured."
    ET.fromstring(headline_plot(nothing))


def test_a_missing_control_is_said():
    without = {name: table.filter(~pl.col("control")) for name, table in REPORT.systems.items()}
    text = Page(render_html(dataclasses.replace(REPORT, systems=without))).text
    assert "No question has its English wording" in text
    assert "in English (control)" not in text


def test_a_label_that_the_knowledge_base_lacks_is_marked():
    unknown = outcomes([0, 0]).with_columns(known=pl.lit(False))
    systems = {"Untuned model": unknown, "Tuned model": unknown}
    page = Page(render_html(dataclasses.replace(REPORT, systems=systems)))
    assert "refund_ me not in the knowledge base 2 2 0.000" in page.text


def test_markdown_says_the_same_in_short():
    markdown = render_markdown(REPORT)
    assert markdown.startswith("# Promoted: Help centre\n\n- It is better.\n")
    assert "- Warning: Two labels have one row." in markdown
    assert "| Tuned model | 4 | 0.750 | 0.500 | 1.000 | 1.000 | +0.250 (" in markdown
    assert "- Remaining cost of the language (all): +0.250 MRR (" in markdown
    assert "| refund\\_me | 4 | 2 | 0.250 | 0.500 |" in markdown
    assert "| kb.csv | empty | 1 | the query is empty |" in markdown
    assert "| split | reused | 1,234 | 1 min 1 s |" in markdown
    assert "![" not in markdown
    assert "data:" not in markdown


def test_headline_plot_is_a_picture_of_its_own():
    tree = ET.fromstring(headline_plot(REPORT))
    words = ["".join(node.itertext()) for node in tree.iter() if node.tag.endswith("text")]
    assert words.count("Tuned model") == 4
    assert words.count("Tuned model, in English") == 4
    assert "0.750" in words
    assert "prefers-color-scheme:dark" in "".join(tree.itertext())


def test_reports_of_equal_runs_are_equal():
    again = dataclasses.replace(REPORT)
    assert render_html(again) == render_html(REPORT)
    assert headline_plot(again) == headline_plot(REPORT)


@pytest.mark.parametrize("module", ["monoglot.report", "monoglot.learning.baselines"])
def test_import_loads_nothing_heavy(module):
    heavy = "{'torch', 'sklearn', 'jinja2', 'matplotlib'}"
    code = f"import sys, {module}; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_the_mixing_of_each_language_is_told_and_its_name_stays_data():
    mixture = {
        "language": HOSTILE,
        "renderings": 1200,
        "mean_cmi": 23.456,
        "english_share": 0.31,
        "asked": {"light": 0.25, "balanced": 0.5, "heavy": 0.25},
        "measured": {"none": 0.08, "light": 0.3, "balanced": 0.4, "heavy": 0.22},
    }
    mixed = stage("translate")
    artifact = mixed.artifact.model_copy(update={"facts": {"mixing": mixture}})
    report = dataclasses.replace(
        REPORT, stages=[stage("load"), mixed.model_copy(update={"artifact": artifact})]
    )
    html, text = render_html(report), render_markdown(report)
    words = " ".join(Page(html).words)
    assert "1,200 23.5 31% 8% 30% (25%) 40% (50%) 22% (25%)" in " ".join(words.split())
    assert "<script>alert" not in html
    assert "none 8%, light 30% (asked 25%), balanced 40% (asked 50%), heavy 22% (asked 25%)" in text
    assert "Code-mixing" not in render_html(REPORT) + render_markdown(REPORT)


def test_gaps_are_grouped_counted_and_escaped():
    gaps = pl.DataFrame(
        [
            ("a", "<b>drone</b> se bhejo", "hi-Latn", 1200, "deliver | by <drone>"),
            ("b", "drone!", "hi-Latn", 1, "Deliver by drone"),
            ("c", "kab", "ar", 2, None),
        ],
        schema=empty(Gaps).schema,
        orient="row",
    )
    report = dataclasses.replace(REPORT, gaps=gaps)
    html = render_html(report)
    assert "<b>drone" not in html
    assert '<a href="#gaps">' in html
    text = Page(html).text
    assert "3 of the unlabelled user queries fit none of the labels" in text
    assert "deliver | by <drone> 1,201 2 hi-Latn <b>drone</b> se bhejo drone!" in text
    markdown = render_markdown(report)
    assert "does not answer: 3 queries" in markdown
    line = r"| deliver \| by \<drone\> | 1,201 | 2 | \<b\>drone\</b\> se bhejo |"
    assert line in markdown
    assert "#gaps" not in render_html(REPORT)
    assert "does not answer" not in render_markdown(REPORT)


def findings(words="seen", text="paisa wapas"):
    example = {"text": text, "label": text, "other": "track"}
    return pl.DataFrame(
        [
            (
                "Rows that look mislabelled",
                "found",
                words,
                "It means.",
                "Do it.",
                [example] * 14,
                99,
            ),
            ("Training loss", "fine", "2.000 at the start", "", "", [], 0),
            ("Hardest against random", "not checked", "both must be run", "", "", [], 0),
        ],
        schema=empty(Findings).schema,
        orient="row",
    )


def test_findings_say_what_was_seen_and_what_to_do_and_the_rest_is_short():
    report = dataclasses.replace(REPORT, findings=findings())
    page = Page(render_html(report))
    assert "1 of 3 checks found something." in page.text
    assert "Rows that look mislabelled Seen seen Likely It means. To do Do it." in page.text
    assert page.text.count("paisa wapas paisa wapas track") == 12
    assert "and 87 more." in page.text
    assert "Checked and fine Training loss 2.000 at the start" in page.text
    assert "Not checked Hardest against random both must be run" in page.text
    assert ("href", "#diagnostics") in page.attributes
    markdown = render_markdown(report)
    assert "- **Rows that look mislabelled**: seen It means. Do it." in markdown
    assert markdown.count("  - paisa wapas: paisa wapas, or track?") == 5
    assert "- Checked and fine: Training loss" in markdown
    assert "- Not checked: Hardest against random" in markdown
    assert "iagnostics" not in render_html(REPORT) + render_markdown(REPORT)


def test_findings_stay_data():
    report = dataclasses.replace(REPORT, findings=findings(HOSTILE, HOSTILE))
    page = Page(render_html(report))
    assert not {"script", "img"} & set(page.tags)
    markdown = render_markdown(report)
    assert not re.search(r"(?<!\\)<|(?<!\\)`|(?<!\\)\[|(?<!\\)!", markdown)
