"""CLIP's text encoder against that of transformers; BERT's is held to the official outputs in test_ldm_conditional."""

import warnings
from typing import Any

import pytest
import torch

from assay.generators.networks.text_encoders import BERTText, CLIPText

from ...compvis import case, drawn

with warnings.catch_warnings(action="ignore"):
    from transformers import CLIPTextConfig, CLIPTextModel


def reference(heads: int, layers: int) -> Any:
    shape = {"hidden_size": 64 * heads, "intermediate_size": 80, "num_hidden_layers": layers}
    config = CLIPTextConfig(
        vocab_size=30, max_position_embeddings=9, num_attention_heads=heads, eos_token_id=29, bos_token_id=28, **shape
    )
    model = CLIPTextModel(config).eval().requires_grad_(False)
    model.load_state_dict(drawn({name: x.shape for name, x in model.state_dict().items()}))
    return model


@pytest.mark.parametrize(("heads", "layers"), [(1, 1), (2, 3)])
def test_clip_is_that_of_transformers(heads: int, layers: int) -> None:
    model = reference(heads, layers)
    tensors = {name.removeprefix("text_model."): x for name, x in model.state_dict().items()}
    ids = torch.randint(30, (4, 9), generator=torch.Generator().manual_seed(0))
    encoder = CLIPText({**tensors, "embeddings.position_ids": torch.arange(9)[None].half()})
    assert (encoder.words, encoder.limit) == (30, 9)
    torch.testing.assert_close(encoder(ids), model(ids).last_hidden_state, rtol=0, atol=1e-5)


def test_tensors_that_do_not_fit() -> None:
    clip = {name.removeprefix("text_model."): x for name, x in reference(1, 1).state_dict().items()}
    with pytest.raises(ValueError, match=r"missing; the first is final_layer_norm\.bias"):
        CLIPText({name: x for name, x in clip.items() if name != "final_layer_norm.bias"})
    for part in "qkv":
        clip[f"encoder.layers.0.self_attn.{part}_proj.weight"] = torch.zeros(60, 64)
    with pytest.raises(ValueError, match="text attention over 60 channels cannot be divided into heads of 64"):
        CLIPText(clip)
    bert = {name.removeprefix("cond_stage_model.transformer."): x for name, x in case("text").tensors.items()}
    bert = {name: x for name, x in bert.items() if not name.startswith(("model.", "first_stage_model."))}
    bert = {name: x for name, x in bert.items() if name not in ("betas", "alphas_cumprod")}
    assert any(name.startswith("to_logits.") for name in bert)
    assert BERTText(bert).limit == 8
    with pytest.raises(ValueError, match=r"the first is memory_tokens"):
        BERTText({**bert, "memory_tokens": torch.zeros(2, 64)})
    with pytest.raises(ValueError, match=r"tensor attn_layers\.layers\.1\.1\.net\.0\.0\.weight is missing"):
        BERTText({name: x for name, x in bert.items() if ".layers.1.1.net.0.0.w" not in name})
