"""The sentence model: a BERT as its formulas have it, and its way of cutting words."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertModel

from assay.harness.studies.few_shot.sentences import TEMPLATES, SentenceEncoder, class_embeddings

MARKS = "[PAD] [UNK] [CLS] [SEP] [MASK] - / _"
WORDS = f"{MARKS} a the of picture small grey drawing digit shirt un ##believ ##able ##s cafe 日"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random weights in the files of a real one."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text(WORDS.replace(" ", "\n"), encoding="utf-8")
    shape = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 40}
    config = BertConfig(vocab_size=len(WORDS.split()), max_position_embeddings=32, layer_norm_eps=1e-12, **shape)
    torch.manual_seed(0)
    network = BertModel(config).eval()
    for tensor in network.parameters():  # biases and norms are trivial at the start
        tensor.data += 0.2 * torch.randn(tensor.shape)
    save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    return folder


def by_hand(folder: Path, words: str) -> Tensor:
    """The embedding of words in the vocabulary, by the formulas of arXiv:1706.03762 and arXiv:1810.04805."""
    state = load_file(folder / "model.safetensors")

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        off = x - x.mean(-1, keepdim=True)
        scaled = off / (off.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    numbers = [WORDS.split().index(word) for word in ["[CLS]", *words.split(), "[SEP]"]]
    table = {kind: state[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")}
    x = table["word"][numbers] + table["position"][: len(numbers)] + table["token_type"][0]
    x = norm(x, "embeddings.LayerNorm")
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        heads = [
            linear(x, f"{layer}.attention.self.{part}").view(len(x), 3, 8).transpose(0, 1)
            for part in ("query", "key", "value")
        ]
        query, key, value = heads
        attended = (query @ key.transpose(1, 2) / 8**0.5).softmax(-1) @ value
        output = linear(attended.transpose(0, 1).flatten(1), f"{layer}.attention.output.dense")
        x = norm(x + output, f"{layer}.attention.output.LayerNorm")
        inner = linear(x, f"{layer}.intermediate.dense")
        inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2
        x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = x.mean(0)
    return mean / mean.norm()


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("a picture of a shirt", "a picture of a shirt"),
        ("A  Shirt/picture", "a shirt / picture"),
        ("unbelievables", "un ##believ ##able ##s"),
        ("café-digit_a", "cafe - digit _ a"),
        ("unbelievabl", "[UNK]"),
        ("日日a", "日 日 a"),
        ("", ""),
    ],
)
def test_an_embedding_is_the_mean_over_the_tokens_of_a_bert(folder: Path, sentence: str, words: str) -> None:
    (found,) = SentenceEncoder(folder)([sentence])
    torch.testing.assert_close(found, by_hand(folder, words), rtol=0, atol=1e-6)


def test_no_sentence_depends_on_the_others(folder: Path) -> None:
    encoder = SentenceEncoder(folder)
    found = encoder(["a picture of a shirt", "the digit", "unbelievables"])
    assert found.shape == (3, 24)
    assert torch.equal(encoder(["the digit"])[0], found[1])


def test_a_class_is_the_mean_of_its_sentences(folder: Path) -> None:
    names = ["shirt", "digit"]
    embeddings, sha256 = class_embeddings(names, str(folder))
    encoder = SentenceEncoder(folder)
    assert sha256 == encoder.sha256
    for name, embedding in zip(names, embeddings, strict=True):
        mean = sum(encoder([text.format(name)])[0] for text in TEMPLATES) / len(TEMPLATES)
        torch.testing.assert_close(embedding, mean / mean.norm())
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def test_what_is_no_sentence_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors; a sentence model is"):
        SentenceEncoder(tmp_path)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"holds no sentence model of BERT's kind, but lacks embeddings"):
        SentenceEncoder(tmp_path)
    monkeypatch.setattr("assay.harness.studies.few_shot.sentences.PACKAGE", "no-such-package")
    with pytest.raises(FileNotFoundError, match=r"no-such-package, 84 MB: `pip install 'assay\[text\]'`, or choose"):
        class_embeddings(["shirt"])
    package = tmp_path / "site" / "a_package"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"damaged")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr("assay.harness.studies.few_shot.sentences.PACKAGE", "a-package")
    with pytest.raises(ValueError, match=r"has sha256 .*, expected 53aa51.*install a-package again"):
        class_embeddings(["shirt"])


def test_without_transformers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"needs transformers: `pip install 'assay\[text\]'`"):
        SentenceEncoder(folder)
