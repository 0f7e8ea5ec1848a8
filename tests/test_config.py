"""`monoglot.yaml`: what is read, how paths are resolved, and what is said on every mistake."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from monoglot.config import Config
from monoglot.config_file import load_config
from monoglot.errors import ConfigError
from monoglot.generation_config import GenerationConfig, RedactionConfig
from monoglot.identity import digest, identity_of

SMALLEST = "knowledge_base: {path: kb.csv}\n"
HINGLISH = "languages:\n  - {code: hi-Latn, name: Hinglish}\n"


@pytest.fixture
def load(tmp_path):
    """Load a config with this text in a folder of its own."""

    def load_text(text):
        path = tmp_path / "shop/monoglot.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(path)

    return load_text


@pytest.fixture
def refusal(load, tmp_path):
    """What is said on a config that cannot be used, without its folder."""

    def say(text):
        with pytest.raises(ConfigError) as caught:
            load(text)
        assert caught.value.exit_code == 2
        return str(caught.value).replace(f"{tmp_path}/shop/monoglot.yaml: ", "")

    return say


def test_the_smallest_config_has_a_default_for_everything_else(load, tmp_path):
    config = load(SMALLEST)
    assert config.knowledge_base.path == tmp_path / "shop/kb.csv"
    assert config.languages == ()
    assert config.base_model == "intfloat/multilingual-e5-base"
    assert config.store == str(tmp_path / "shop/store")
    assert config.split.index_share == 0.3
    default = Config.model_validate({"knowledge_base": {"path": "kb.csv"}})
    assert config.model_dump(exclude={"knowledge_base", "store"}) == default.model_dump(
        exclude={"knowledge_base", "store"}
    )


def test_paths_are_seen_from_the_configs_own_folder(load, tmp_path, monkeypatch):
    (tmp_path / "shop/models/mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    config = load(
        """
        knowledge_base: {path: ../kb.csv}
        languages:
          - {code: ar, name: Arabic, translations: given/ar.csv}
          - {code: hi, name: Hindi}
        evaluation: {path: ~/asked.csv}
        training: {path: /data/native.csv}
        base_model: models/mine
        store: .
        """
    )
    assert config.knowledge_base.path == tmp_path / "kb.csv"
    assert config.languages[0].translations == tmp_path / "shop/given/ar.csv"
    assert config.languages[1].translations is None
    assert config.evaluation.path == tmp_path / "home/asked.csv"
    assert config.training.path == Path("/data/native.csv")
    assert config.base_model == str(tmp_path / "shop/models/mine")
    assert config.store == str(tmp_path / "shop")


@pytest.mark.parametrize("name", ["intfloat/multilingual-e5-base@1a2b", "offline-minilm"])
def test_a_hub_name_is_no_path(load, name):
    assert load(f"{SMALLEST}base_model: {name}\n").base_model == name


@pytest.mark.parametrize(
    ("written", "meant"), [("./mine", "shop/mine"), ("../mine", "mine"), ("~/mine", "home/mine")]
)
def test_a_folder_of_a_model_need_not_exist_yet(load, tmp_path, monkeypatch, written, meant):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load(f"{SMALLEST}base_model: {written}\n").base_model == str(tmp_path / meant)


def test_an_object_store_is_no_path(load):
    assert load(f"{SMALLEST}store: s3://bucket/prefix\n").store == "s3://bucket/prefix"


def test_the_same_settings_in_another_folder_have_the_same_identity(load, tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/kb.csv").write_bytes(b"query,label\n")
    one = load(SMALLEST + "split: {seed: 3}\n")
    other = load("split:\n  seed: 3\nknowledge_base:\n  path: ./../shop/kb.csv\n")
    assert digest(identity_of(one.knowledge_base)) == digest(identity_of(other.knowledge_base))
    assert digest(identity_of(one.split)) == digest(identity_of(other.split))


def test_a_config_cannot_be_changed(load):
    with pytest.raises(ValidationError, match="frozen"):
        load(SMALLEST).split.seed = 1


def test_settings_without_a_value_have_their_default(load):
    text = SMALLEST + "split:\n  # index_share: 0.3\ngate:\n  metric:\nevaluation: {path: }\n"
    assert load(text) == load(SMALLEST)


def test_a_missing_file_names_the_command_that_writes_one(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file\. `monoglot init DIR` writes"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read as UTF-8 text: .*directory"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xff\xfe", "cannot be read as UTF-8 text: "),
        (b"name: caf\xe9", "cannot be read as UTF-8 text: "),
        ("", "expected settings by name, such as `knowledge_base:`."),
        ("# all comments\n", "expected settings by name"),
        ("- knowledge_base\n", "expected settings by name"),
        ("kb.csv", "expected settings by name"),
        ("knowledge_base: {path: kb.csv", "is not valid YAML: "),
        ("a: b: c", "is not valid YAML: "),
        ("store: 2026-13-01", "is not valid YAML: month must be in 1..12"),
        ("a: !!python/object:os.system x", "is not valid YAML: could not determine a constructor"),
        ("a: &x {b: 1}\n\0", "is not valid YAML: "),
        ("[" * 1500, "is not valid YAML: "),
    ],
)
def test_a_file_that_is_no_config_is_refused(refusal, text, said):
    assert refusal(text).startswith(said)


def test_a_setting_given_twice_is_refused_with_its_line(refusal, load):
    said = refusal(SMALLEST + "split: {seed: 1}\nsplit: {index_share: 0.5}\n")
    assert said.startswith("is not valid YAML: split is given twice")
    assert "line 3, column 1" in said
    assert "seed is given twice" in refusal(SMALLEST + "split:\n  seed: 1\n  seed: 1\n")
    merged = "split: &s {seed: 1}\nsampling: {strategy: random}\n"
    assert load(SMALLEST + merged).split.seed == 1


def test_a_typo_names_the_settings_that_exist_there(refusal):
    said = refusal(SMALLEST + "evalution: {path: q.csv}\n")
    assert said.startswith("evalution: unknown setting (a typo?). Known here: knowledge_base, lang")
    assert refusal(SMALLEST + "split: {sead: 1}\n") == (
        "split.sead: unknown setting (a typo?). "
        "Known here: index_share, evaluation_share, seed, untrained_labels."
    )
    assert refusal(SMALLEST + "sampling: {similarity: {temprature: 1}}\n") == (
        "sampling.similarity.temprature: unknown setting (a typo?). "
        "Known here: source, file, temperature."
    )
    assert refusal(SMALLEST + "languages:\n  - {code: hi, name: Hindi, file: x}\n") == (
        "languages.0.file: unknown setting (a typo?). Known here: "
        "code, name, script, style, translations, mixing."
    )
    assert refusal(SMALLEST + "typo:\n").startswith("typo: unknown setting")


def test_all_mistakes_are_told_at_once(refusal):
    said = refusal("languages:\n  - {name: Hindi}\nsplit: {seed: x, sed: 1}\n")
    assert [line.split(":")[0] for line in said.split("; ")] == [
        "knowledge_base",
        "languages.0.code",
        "split.seed",
        "split.sed",
    ]
    assert said.startswith("knowledge_base: is required; languages.0.code: is required; ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("split: {index_share: much}", "split.index_share: Input should be a valid number"),
        ("split: {index_share: 0}", "split.index_share: Input should be greater than 0 (got 0)"),
        ("split: {index_share: 1.0}", "split.index_share: Input should be less than 1 (got 1.0)"),
        ("split: {evaluation_share: -0.1}", "split.evaluation_share: Input should be greater"),
        ("split: {seed: 1.5}", "split.seed: Input should be a valid integer"),
        ("split: {seed: yes}", "split.seed: expected a number, not true"),
        (
            "fine_tuning: {learning_rate: on}",
            "fine_tuning.learning_rate: expected a number, not tr",
        ),
        ("fine_tuning: {epochs: 0}", "fine_tuning.epochs: Input should be greater than or equal"),
        ("fine_tuning: {batch_size: 1}", "fine_tuning.batch_size: Input should be greater than"),
        ("fine_tuning: {temperature: 0}", "fine_tuning.temperature: Input should be greater than"),
        ("fine_tuning: {temperature: .nan}", "fine_tuning.temperature: Input should be a finite"),
        ("fine_tuning: {max_tokens: 513}", "fine_tuning.max_tokens: Input should be less than"),
        ("fine_tuning: {warmup_share: 1.1}", "fine_tuning.warmup_share: Input should be less"),
        ("generation: {temperature: 2.1}", "generation.temperature: Input should be less than"),
        ("quality: {max_longer: 1}", "quality.max_longer: Input should be gre"),
        (
            "sampling: {strategy: best}",
            "sampling.strategy: Input should be 'algorithm1', 'algorithm1_label",
        ),
        ("sampling: {hard_negatives: 17}", "sampling.hard_negatives: Input should be less than"),
        ("gate: {metric: hit@10}", "gate.metric: Input should be 'mrr', 'hit@1', 'hit@3' or 'hit"),
        ("gate: {min_gain: .inf}", "gate.min_gain: Input should be a finite number (got inf)"),
        ("policy: {retrain_share: 5}", "policy.retrain_share: Input should be less than or equal"),
        ("evaluation: queries.csv", "evaluation: expected settings by name (got 'queries.csv')"),
        ("languages: {code: hi}", "languages: expected a list (got {'code': 'hi'})"),
        ("languages: [hi]", "languages.0: expected settings by name (got 'hi')"),
        ("store: 5", "store: Input should be a valid string (got 5; put it in quotes)"),
        ("store: ''", "store: String should have at least 1 character"),
        ("base_model: ''", "base_model: String should have at least 1 character"),
        ("1: x", "1: "),
        ("training: {columns: {text: [a]}}", "training.columns.text: Input should be a valid str"),
        ("store: ~nobody-of-this-name/x", "a path in it cannot be used: Could not determine home"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(refusal, text, said):
    assert refusal(f"{SMALLEST}{text}\n").startswith(said)


def test_norwegian_is_a_language(refusal, load):
    assert refusal(SMALLEST + "languages:\n  - {code: spanish, name: Spanish}\n") == (
        "languages.0.code: 'spanish' is no BCP 47 code, such as es, pt-BR or hi-Latn"
    )
    assert refusal(SMALLEST + "languages:\n  - {code: no, name: Norwegian}\n") == (
        "languages.0.code: Input should be a valid string (got False; put it in quotes)"
    )
    config = load(SMALLEST + "languages:\n  - {code: 'no', name: Norwegian}\n")
    assert config.languages[0].code == "no"


def test_the_knowledge_bases_path_is_required(refusal):
    assert refusal("knowledge_base: {language: en}\n") == (
        "knowledge_base.path: is required, or one of url, url_env, or sql with url_env"
    )
    assert refusal("knowledge_base:\n") == "knowledge_base: is required"


@pytest.mark.parametrize("again", ["hi-Latn", "HI-latn"])
def test_a_language_listed_twice_is_refused(refusal, again):
    said = refusal(
        f"{SMALLEST}{HINGLISH}  - {{code: ar, name: Arabic}}\n  - {{code: {again}, name: x}}\n"
    )
    assert said == f"languages: {', '.join(sorted({'hi-Latn', again}))} is listed twice"


def test_a_long_value_is_not_told_in_full(refusal):
    assert len(refusal(f"{SMALLEST}split: {{seed: {'x' * 5000}}}\n")) <= 300


def test_the_paper_s_objective_needs_sampled_negatives(refusal):
    sampling = "sampling: {random_negatives: 0, hard_negatives: 0}\n"
    said = refusal(f"{SMALLEST}{sampling}fine_tuning: {{objective: explicit}}\n")
    assert "sampling.random_negatives or sampling.hard_negatives" in said


def test_a_glossary_has_the_form_of_the_texts_it_is_looked_for_in(refusal):
    written = "Cafe\N{COMBINING ACUTE ACCENT}  Card "
    [term] = GenerationConfig(glossary=(written,)).glossary
    assert term == "Caf\N{LATIN SMALL LETTER E WITH ACUTE} Card"
    said = refusal(f"{SMALLEST}generation: {{glossary: ['SIM', ' ']}}\n")
    assert said.startswith("generation.glossary: a term is empty")


def test_a_pattern_for_users_queries_bears_on_no_row_of_the_knowledge_base():
    own = {"employee": r"EMP-\d{6}"}
    assert RedactionConfig(patterns=own).for_rows == RedactionConfig().for_rows
    rows = RedactionConfig(patterns=own, knowledge_base=True)
    assert rows.for_rows == rows.model_copy(update={"user_queries": False}).for_rows
    assert rows.for_rows.patterns == own
    assert rows.for_rows.knowledge_base


def test_the_recipe_for_a_gpu_is_a_config():
    config = load_config(Path(__file__).parents[1] / "deployments/multilingual-e5-base.yaml")
    assert config.base_model == "intfloat/multilingual-e5-base"
    assert (config.fine_tuning.batch_size, config.fine_tuning.gradient_cache) == (512, True)
