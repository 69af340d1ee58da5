"""What a pipeline of diffusers is called with: text, class, guidance, steps, for each item by its seed."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

WITHOUT_LATENTS = ("DDPMPipeline", "DDIMPipeline", "DiTPipeline", "LDMPipeline")
"""Pipelines that have no argument `latents`, and whose first draw is known to be the initial noise."""
OWN = ("prompt", "negative_prompt", "guidance_scale", "num_inference_steps", "class_labels", "batch_size", "height")
OURS = (*OWN, "width", "generator", "latents", "output_type", "return_dict", "num_images_per_prompt")
"""Arguments that options of the generator stand for, or that it needs for itself."""
CLASSES = (("unet", "num_class_embeds"), ("transformer", "num_embeds_ada_norm"))
"""Where a class-conditional pipeline keeps the number of its classes: a part and a name in its configuration."""


@dataclass(frozen=True)
class Wishes:
    """What a user asks of a pipeline; None leaves the pipeline's own default.

    prompts: item i gets the one with number seed mod len(prompts); empty where the pipeline takes no text.
    label: the class of all items; None takes class seed mod classes. arguments: others of its call, by name.
    """

    prompts: Sequence[str] = ()
    negative_prompt: str = ""
    guidance: float | None = None
    steps: int | None = None
    label: int | None = None
    height: int | None = None
    width: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Call:
    """The arguments of a call. Raises ValueError, naming pipeline and argument, for what the pipeline does not take.

    varies: whether items differ in more than their noise. defaults: arguments that depend on what is installed.
    """

    def __init__(self, pipe: Any, wishes: Wishes):
        self.kind, self.wishes = type(pipe).__name__, wishes
        self.names = inspect.signature(type(pipe).__call__).parameters
        self.classes = self._classes(pipe)
        self._require()
        self.prompts = list(wishes.prompts) or [""]
        self.defaults: dict[str, Any] = {}
        if "clean_caption" in self.names:  # these pipelines can clean captions only where both packages are installed
            self.defaults["clean_caption"] = all(map(find_spec, ("bs4", "ftfy")))
        conditional = bool(self.classes) and wishes.label is None
        self.varies = conditional or ("prompt" in self.names and len(self.prompts) > 1)

    def arguments(self, seeds: Sequence[int]) -> dict[str, Any]:
        """Of a call for items with these seeds, but for `generator`."""
        wishes, count = self.wishes, len(seeds)
        given: dict[str, Any] = {
            "guidance_scale": wishes.guidance,
            "num_inference_steps": wishes.steps,
            "height": wishes.height,
            "width": wishes.width,
        }
        found = {name: value for name, value in given.items() if value is not None}
        found = {**self.defaults, **found, **wishes.arguments}
        if "prompt" in self.names:
            found["prompt"] = [self.prompts[seed % len(self.prompts)] for seed in seeds]
            if wishes.negative_prompt:
                found["negative_prompt"] = [wishes.negative_prompt] * count
        elif "batch_size" in self.names:
            found["batch_size"] = count
        if self.classes:
            found["class_labels"] = [seed % self.classes if wishes.label is None else wishes.label for seed in seeds]
        if "output_type" in self.names:
            found["output_type"] = "pt"
        return found

    def _classes(self, pipe: Any) -> int:
        if "class_labels" not in self.names:
            return 0
        found = (getattr(getattr(pipe, part, None), "config", {}).get(name) for part, name in CLASSES)
        return next((int(number) for number in found if number), 0)

    def _require(self) -> None:
        wishes, kind, names = self.wishes, self.kind, self.names
        if "num_frames" in names or any("audio" in name for name in names):
            raise ValueError(f"{kind} makes no images (it takes {_first(names, 'num_frames', 'audio')}=)")
        if "generator" not in names:
            raise ValueError(f"{kind} takes no generator=, so a sample would not depend on its seed alone")
        if "latents" not in names and kind not in WITHOUT_LATENTS:
            raise ValueError(f"{kind} takes no latents=; pipelines without it are opened if they are {_known()}")
        options = {
            "prompt": ("prompt", any(wishes.prompts)),
            "negative_prompt": ("negative_prompt", bool(wishes.negative_prompt)),
            "guidance": ("guidance_scale", wishes.guidance is not None),
            "steps": ("num_inference_steps", wishes.steps is not None),
            "height": ("height", wishes.height is not None),
            "width": ("width", wishes.width is not None),
        }
        for option, (name, wanted) in options.items():
            if wanted and name not in names:
                raise ValueError(f"{kind} takes no {name}=: leave the option {option} out")
        if (wishes.height is None) != (wishes.width is None):
            raise ValueError("give both height= and width=, or neither")
        if wishes.label is not None and not 0 <= wishes.label < self.classes:
            known = f"a class 0..{self.classes - 1}" if self.classes else "null: it has no classes"
            raise ValueError(f"{kind}: label={wishes.label} must be {known}")
        if owned := sorted(set(wishes.arguments) & set(OURS)):
            raise ValueError(
                f"arguments: {owned[0]} is set by the options of this generator, or by the generator itself"
            )
        if unknown := sorted(set(wishes.arguments) - set(names)):
            raise ValueError(f"arguments: {kind} takes no {unknown[0]}=")
        needed = [
            one.name for one in list(names.values())[1:] if one.default is one.empty and one.kind < one.VAR_KEYWORD
        ]
        if lacking := [name for name in needed if name not in {*OURS, *wishes.arguments} and name != "args"]:
            raise ValueError(f"{kind} needs {lacking[0]}=, which assay does not have; it takes text, classes and noise")


def _first(names: Mapping[str, Any], *parts: str) -> str:
    return next(name for name in names if any(part in name for part in parts))


def _known() -> str:
    return f"{', '.join(WITHOUT_LATENTS[:-1])} or {WITHOUT_LATENTS[-1]}"
