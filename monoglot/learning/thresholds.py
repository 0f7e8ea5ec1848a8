"""`Abstention`: the score below which a release says that it does not know, for each language.

Plain data, as a release's manifest holds it; `abstention.py` calibrates it.
"""

from pydantic import BaseModel, ConfigDict

from monoglot.wording import number, percent, rate


class Threshold(BaseModel):
    """The least score with which one language's queries are answered, and what it was measured at.

    Attributes:
        score: confidence: the nearest row's cosine times the share of the votes, of the first
            label. None: at no such value are wrong answers as rare
            as was asked for, so nothing is answered with confidence.
        certain: whether the rate holds with 95 % confidence, and not only on what was measured.
        pooled: the score is that of all languages, since this one has too few questions.
        questions: evaluation questions it was measured on, one of each English source.
        out_of_scope: out-of-scope queries it was measured on.
        coverage: share of the questions that are answered at this score.
        wrong: share of the answered that are answered wrongly, out-of-scope queries among them;
            None: nothing is answered.
        at_most: upper bound of that share, which holds with 95 % confidence.
        caught: share of the out-of-scope queries that are not answered; None: there were none.
    """

    model_config = ConfigDict(frozen=True)

    score: float | None
    certain: bool
    pooled: bool = False
    questions: int
    out_of_scope: int
    coverage: float
    wrong: float | None
    at_most: float
    caught: float | None

    @property
    def verdict(self) -> str:
        """Whether the rate is reached, in a few words."""
        if self.score is None:
            return "not reached"
        if self.pooled:
            return "too few questions: that of all languages"
        return "reached" if self.certain else "as measured; not certain"

    def line(self) -> str:
        """The figures as a sentence's part."""
        if self.score is None:
            return "nothing is answered with confidence"
        caught = "" if self.caught is None else f", {percent(self.caught)} of out-of-scope caught"
        return (
            f"from confidence {number(self.score)} on {percent(self.coverage)} of "
            f"{self.questions:,} questions are answered, {rate(self.wrong or 0.0)} of the answered "
            f"wrongly (at most {rate(self.at_most)}){caught}"
        )


class Abstention(BaseModel):
    """The thresholds of a release.

    Attributes:
        max_wrong: the share of wrong answers among the answered that was asked for.
        out_of_scope_share: the share of queries that was taken to be out of scope; 0: the
            thresholds rest on evaluation questions alone.
        overall: over the questions of all languages.
        languages: BCP 47 code -> its own; those with too few questions have `overall`'s score.
    """

    model_config = ConfigDict(frozen=True)

    max_wrong: float
    out_of_scope_share: float
    overall: Threshold
    languages: dict[str, Threshold] = {}

    def score_of(self, language: str | None) -> float | None:
        """The least score to answer at; None: not at any.

        A language that is not known, or not given, gets the most careful of all thresholds: then
        no language is answered more boldly than was measured for it. That of all languages
        together would keep the rate only for the mixture of languages in the evaluation file.

        Args:
            language: BCP 47 code, whatever its case; None: unknown.
        """
        named = {code.lower(): threshold for code, threshold in self.languages.items()}
        if language is not None and language.lower() in named:
            return named[language.lower()].score
        scores = [threshold.score for threshold in (self.overall, *named.values())]
        known = [score for score in scores if score is not None]
        return max(known) if len(known) == len(scores) else None

    def line(self) -> str:
        """The figures over all languages, for a log."""
        return self.overall.line()

    def warnings(self) -> tuple[str, ...]:
        """Where the rate that was asked for is not reached for certain, with the figures."""
        named = self.languages or {"all languages": self.overall}
        return tuple(
            self._warning(name, threshold)
            for name, threshold in named.items()
            if not threshold.certain
        )

    def _warning(self, name: str, threshold: Threshold) -> str:
        asked = rate(self.max_wrong)
        if threshold.score is None:
            return (
                f"Abstention, {name}: at no confidence are at most {asked} of the answered wrong, "
                f"so `Retriever` is never confident ({threshold.questions:,} questions). Raise "
                "abstention.max_wrong, or train a better model."
            )
        few = "it has too few questions, and uses that of all languages; "
        return (
            f"Abstention, {name}: that at most {asked} of the answered are wrong is not certain: "
            f"{few if threshold.pooled else ''}{threshold.line()}. More evaluation questions "
            "would tell, or raise abstention.max_wrong."
        )
