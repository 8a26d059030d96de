"""The host's progress bar and live previews."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from comfy.nested_tensor import NestedTensor
from PIL import Image
from torch import Tensor

StepCallback = Callable[[int, "Tensor | NestedTensor", "Tensor | NestedTensor", int], None]
"""The host calls it after each step with: step, predicted data, latents, number of steps."""


def step_callback(model: ModelPatcher, steps: int) -> StepCallback:
    """The host's own: a progress bar, and a preview of the first image of the batch."""
    return latent_preview.prepare_callback(model, steps)


class PreviewOfAll:
    """One progress bar over several passes, and one preview of all images of those passes."""

    def __init__(
        self,
        model: ModelPatcher,
        steps: int,
        arrange: Callable[[Mapping[int, Image.Image]], Image.Image],
    ) -> None:
        """``steps`` counts those of all passes; ``arrange`` makes one image of those so far."""
        latent_format = model.model.latent_format
        self._previewer = latent_preview.get_previewer(model.load_device, latent_format)
        self._bar = comfy.utils.ProgressBar(steps)
        self._steps = steps
        self._arrange = arrange
        self._images: dict[int, Image.Image] = {}

    def of_pass(self, first_image: int, first_step: int) -> StepCallback:
        """The callback of the pass that starts with this image and this step."""

        def callback(
            step: int,
            denoised: Tensor | NestedTensor,
            latents: Tensor | NestedTensor,
            steps_of_pass: int,
        ) -> None:
            preview = None
            if self._previewer is not None:
                each = denoised.unbind() if isinstance(denoised, NestedTensor) else [denoised]
                for index, image in enumerate(each, first_image):
                    self._images[index] = self._previewer.decode_latent_to_preview(image)
                size = latent_preview.MAX_PREVIEW_RESOLUTION
                preview = ("JPEG", self._arrange(self._images), size)
            self._bar.update_absolute(first_step + step + 1, self._steps, preview)

        return callback
