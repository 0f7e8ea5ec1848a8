"""The wire format against a server that we did not write: `transformers serve`, on loopback.

The model has random weights and is made here, so its text is noise: every row must end refused,
with a reason, and every reply in the ledger, with the tokens that the server counted.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import polars as pl
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from monoglot.config import LanguageConfig
from monoglot.contracts import Queries, empty
from monoglot.generation.ledger import Ledger
from monoglot.generation.quality import keep_good
from monoglot.generation.replies import PROBLEMS, Reply
from monoglot.generation.translation import translate
from monoglot.generation_config import GenerationConfig, QualityConfig
from monoglot.settings import Settings

pytestmark = pytest.mark.slow

STARTS_WITHIN_S = 180.0  # torch and transformers, on a machine that may be busy
REPLY_TOKENS = 24
# No gate can be sure of noise: a handful of letters may by chance be what someone types. So that
# the gates always see the same texts, the server samples from a seed, one request after another.
SAME_NOISE = ("--default-seed", "1")


def random_chat_model(folder: Path) -> Path:
    """A 1-layer Llama with random weights that speaks bytes, and soon comes to an end."""
    import torch
    from transformers import (
        GenerationConfig as Sampling,
    )
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    letters = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.chat_template = (
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n"
        "{% endfor %}assistant:"
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    size = LlamaConfig(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        max_position_embeddings=8192,
        bos_token_id=0,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(size)
    model.generation_config = Sampling(
        do_sample=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        # The server allows 1,024 tokens at least; this makes the end ever likelier.
        exponential_decay_length_penalty=(REPLY_TOKENS, 2.0),
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address and model name of a running `transformers serve`."""
    folder = tmp_path_factory.mktemp("served")
    model = random_chat_model(folder / "noise")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", model, "--device", "cpu"]
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*map(str, command), "--host", "127.0.0.1", "--port", str(port), *SAME_NOISE],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"},
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        process.terminate()
        process.wait(30)


def translations(*pairs):
    """Table `Queries` of texts with their sources."""
    return pl.DataFrame(
        [
            {
                "query_id": f"q{number}",
                "text": text,
                "language": "hi-Latn",
                "label": "label",
                "origin": "translated",
                "source_row_id": None,
                "english": source,
            }
            for number, (text, source) in enumerate(pairs)
        ],
        schema=empty(Queries).schema,
    )


def _wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")


@pytest.mark.parametrize("structured", ["prompt", "json_schema"])  # it ignores a schema
def test_noise_over_a_real_wire_is_paid_for_recorded_and_refused(server, tmp_path, structured):
    base_url, model = server
    hinglish = LanguageConfig(code="hi-Latn", name="Hinglish")
    rows = pl.DataFrame(
        {
            "row_id": ["a", "b", "c"],
            "query": ["where is my parcel", "cancel order 40215567", "मेरा रिफंड कब आएगा"],
            "label": ["parcel", "order", "refund"],
        }
    )
    settings = Settings(
        llm_base_url=base_url,
        llm_structured=structured,
        llm_concurrency=1,
        llm_timeout_s=120.0,
        llm_attempts=1,
    )
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        config = GenerationConfig(model=model, temperature=1.0)
        made = translate(rows, hinglish, config, kb_language="en", settings=settings, ledger=ledger)
        replies = [
            Reply.of(body) for (body,) in ledger._database.execute("SELECT body FROM replies")
        ]
    # A full request, one of what is left, then each row alone.
    assert made.usage.requests == len(replies) == 5
    assert made.usage.uncounted == 0
    assert made.usage.prompt_tokens == sum(reply.usage.prompt_tokens for reply in replies) > 5000
    assert all(0 < reply.usage.completion_tokens < 1024 for reply in replies)
    assert all(reply.finish_reason == "stop" for reply in replies)
    assert all(reply.model.startswith(model) for reply in replies)
    assert any(reply.text for reply in replies)

    assert made.rows.is_empty()
    assert sorted(made.rejects["value"]) == sorted(rows["query"])
    assert set(made.rejects["rule"]) <= set(PROBLEMS)
    assert made.rejects["reason"].str.len_chars().min() > 0

    # As if the noise had been taken for translations, of every source; and one that a person made.
    pairs = [(reply.text, source) for reply in replies for source in rows["query"]]
    kept, dropped = keep_good(
        translations(*pairs, ("mera parcel kahan hai", "where is my parcel")),
        hinglish,
        QualityConfig(),
    )
    assert kept["text"].to_list() == ["mera parcel kahan hai"]
    assert sorted(dropped["value"]) == sorted(text for text, _ in pairs)
