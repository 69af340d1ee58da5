"""The text encoders inside latent diffusion files, built from their tensors, and the tokens that they read.

Stable Diffusion 1 has CLIP's (arXiv:2103.00020), the text model of latent-diffusion one of its own over tokens of BERT.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .diffusers_parts import class_of, opening
from .from_tensors import adopt, children, linear, shape_of
from .openai_unet import attend

Tensors = Mapping[str, Tensor]

HEAD = 64
"""Channels of an attention head, in both encoders."""


def token_ids(
    folder: Path, tokenizer: str, texts: Sequence[str], limit: int | None = None, words: int | None = None
) -> Tensor:
    """Tokens [len(texts), limit] of texts, padded, by the tokenizer (a class of transformers) in a folder.

    limit: null takes that of the folder; words: how many tokens there must be.
    Raises ValueError if a text is too long, or the vocabulary has another size.
    """
    tokenizer_class = class_of("transformers", tokenizer)
    with opening(folder, tokenizer):
        made = tokenizer_class.from_pretrained(folder, local_files_only=True)
    if words is not None and len(made) != words:
        raise ValueError(
            f"the tokenizer in {folder} has {len(made):,} tokens, the text encoder {words:,}; give the folder of the "
            "tokenizer with which the model was trained"
        )
    most: int = made.model_max_length if limit is None else limit
    rows = [made(text, padding="max_length", max_length=most)["input_ids"] for text in texts]
    for text, row in zip(texts, rows, strict=True):
        if len(row) > most:
            raise ValueError(f"a prompt has {len(row)} tokens, the limit is {most}; shorten {text[:40]!r}...")
    return torch.tensor(rows)


def _heads(layer: nn.Linear) -> int:
    if layer.out_features % HEAD:
        raise ValueError(f"text attention over {layer.out_features} channels cannot be divided into heads of {HEAD}")
    return layer.out_features // HEAD


class CLIPLayer(nn.Module):
    """Causal self-attention and two linear layers with x · sigmoid(1.702 x) between, each after a norm."""

    def __init__(self, tensors: Tensors, name: str):
        super().__init__()
        parts = {part: linear(tensors, f"{name}.self_attn.{part}_proj") for part in ("q", "k", "v", "out")}
        self.self_attn = nn.ModuleDict({f"{part}_proj": layer for part, layer in parts.items()})
        self.mlp = nn.ModuleDict({part: linear(tensors, f"{name}.mlp.{part}") for part in ("fc1", "fc2")})
        self.heads, width = _heads(parts["q"]), parts["q"].in_features
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer_norm1(x)
        q, k, v = (self.self_attn[f"{p}_proj"](h).unflatten(2, (self.heads, -1)).transpose(1, 2) for p in "qkv")
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.self_attn["out_proj"](h)
        h = self.mlp["fc1"](self.layer_norm2(x))
        total: Tensor = x + self.mlp["fc2"](h * torch.sigmoid(1.702 * h))
        return total


class CLIPText(nn.Module):
    """CLIP's text encoder up to its last norm. tensors: those below `text_model.` in a file.

    limit: the number of tokens of a text; words: that of the vocabulary.
    Raises ValueError with the first tensor that does not fit.
    """

    tokenizer: Literal["CLIPTokenizer"] = "CLIPTokenizer"

    def __init__(self, tensors: Tensors):
        super().__init__()
        # Some files hold the positions 0, 1, … as a tensor, rounded to half precision or not.
        tensors = {name: x for name, x in tensors.items() if name != "embeddings.position_ids"}
        self.words, width = shape_of(tensors, "embeddings.token_embedding.weight", 2)
        self.limit = shape_of(tensors, "embeddings.position_embedding.weight", 2)[0]
        with torch.device("meta"):
            sizes = {"token_embedding": self.words, "position_embedding": self.limit}
            self.embeddings = nn.ModuleDict({name: nn.Embedding(size, width) for name, size in sizes.items()})
            layers = nn.ModuleList(CLIPLayer(tensors, name) for name in children(tensors, "encoder.layers"))
            self.encoder = nn.ModuleDict({"layers": layers})
            self.final_layer_norm = nn.LayerNorm(width)
        adopt(self, tensors)

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings [N, limit, D] of tokens [N, limit]."""
        x = self.embeddings["token_embedding"](ids) + self.embeddings["position_embedding"].get_parameter("weight")
        layers: Any = self.encoder["layers"]
        for layer in layers:
            x = layer(x)
        embedded: Tensor = self.final_layer_norm(x)
        return embedded


class PlainAttention(nn.Module):
    """Self-attention over all tokens, padding too."""

    def __init__(self, tensors: Tensors, name: str):
        super().__init__()
        self.to_q, self.to_k, self.to_v = (linear(tensors, f"{name}.to_{part}", bias=False) for part in "qkv")
        self.to_out, self.heads = linear(tensors, f"{name}.to_out"), _heads(self.to_q)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.to_q, self.to_k, self.to_v))
        out: Tensor = self.to_out(attend(q, k, v).transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """A linear layer, GELU, a linear layer."""

    def __init__(self, tensors: Tensors, name: str):
        super().__init__()
        first = nn.Sequential(linear(tensors, f"{name}.net.0.0"), nn.GELU())
        self.net = nn.Sequential(first, nn.Identity(), linear(tensors, f"{name}.net.2"))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class BERTText(nn.Module):
    """The transformer of latent-diffusion over tokens of BERT. tensors: those below `cond_stage_model.transformer.`.

    limit: the number of tokens of a text; words: that of the vocabulary.
    Raises ValueError with the first tensor that does not fit.
    """

    tokenizer: Literal["BertTokenizerFast"] = "BertTokenizerFast"

    def __init__(self, tensors: Tensors):
        super().__init__()
        tensors = {name: x for name, x in tensors.items() if not name.startswith("to_logits.")}
        self.words, width = shape_of(tensors, "token_emb.weight", 2)
        self.limit = shape_of(tensors, "pos_emb.emb.weight", 2)[0]
        with torch.device("meta"):
            self.token_emb = nn.Embedding(self.words, width)
            self.pos_emb = nn.ModuleDict({"emb": nn.Embedding(self.limit, width)})
            layers = nn.ModuleList(
                self._layer(tensors, name, width) for name in children(tensors, "attn_layers.layers")
            )
            self.attn_layers = nn.ModuleDict({"layers": layers})
            self.norm = nn.LayerNorm(width)
        adopt(self, tensors)

    @staticmethod
    def _layer(tensors: Tensors, name: str, width: int) -> nn.ModuleList:
        kind = PlainAttention if f"{name}.1.to_q.weight" in tensors else FeedForward
        return nn.ModuleList([nn.LayerNorm(width), kind(tensors, f"{name}.1")])

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings [N, limit, D] of tokens [N, limit]."""
        x = self.token_emb(ids) + self.pos_emb["emb"].get_parameter("weight")
        layers: Any = self.attn_layers["layers"]
        for norm, layer in layers:
            x = x + layer(norm(x))
        embedded: Tensor = self.norm(x)
        return embedded
