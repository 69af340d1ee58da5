"""What can be set on the command line: Hydra takes options that are empty mappings, and refuses unknown ones."""

from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from assay.harness.command.hydra_jobs import register
from assay.harness.core.registry import discover

discover()


def composed(*overrides: str) -> Any:
    GlobalHydra.instance().clear()
    register(overrides, "evaluate")
    with initialize_config_module("assay.configs", version_base="1.3"):
        return OmegaConf.to_container(compose("evaluate", list(overrides)), resolve=False)


@pytest.mark.parametrize(
    ("study", "option", "given", "expected"),
    [
        ("humans", "folders", "{cifar10: /data}", {"cifar10": "/data"}),
        ("sanity", "fewer", "{precision: 2}", {"precision": 2}),
        ("replicate", "shared", "{digits: 0.01}", {"digits": 0.01}),
    ],
)
def test_an_option_that_is_an_empty_mapping_takes_any_keys(study: str, option: str, given: str, expected: Any) -> None:
    config = composed(f"study={study}", f"study.{study}.{option}={given}")
    assert config["study"][study][option] == expected


def test_an_unknown_key_beside_it_is_refused() -> None:
    with pytest.raises(ConfigCompositionException, match="nothing"):
        composed("study=humans", "study.humans={nothing: 1}")
