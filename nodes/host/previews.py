"""The host's progress bar and live previews."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from comfy.nested_tensor import NestedTensor
from PIL import Image
from torch import Tensor

StepCallback = Callable[[int, "Tensor | NestedTensor", "Tensor | NestedTensor", int], None]
"""The host calls it after each step with: step, predicted data, latents, number of steps."""

_LARGEST = 4
"""Previews of many images may be this many times as large as the host's of one."""


def step_callback(model: ModelPatcher, steps: int) -> StepCallback:
    """The host's own: a progress bar, and a preview of the first image of the batch."""
    return latent_preview.prepare_callback(model, steps)


def preview_size(images_a_side: int) -> int:
    """The longest side in pixels of a preview of many images, by how many are on that side.

    Half of what the host gives to one image is for each of them.
    """
    times = min(max(images_a_side / 2, 1), _LARGEST)
    return round(latent_preview.MAX_PREVIEW_RESOLUTION * times)


class PreviewOfAll:
    """One progress bar over several passes, and one preview of all images of those passes."""

    def __init__(
        self,
        model: ModelPatcher,
        steps: int,
        size: int,
        arrange: Callable[[Mapping[int, Image.Image]], Image.Image],
    ) -> None:
        """``steps`` counts those of all passes; ``arrange`` makes one image of those so far.

        ``size`` is the longest side of that image, in pixels.
        """
        self._latent_format = model.model.latent_format
        self._previewer = latent_preview.get_previewer(model.load_device, self._latent_format)
        self._bar = comfy.utils.ProgressBar(steps)
        self._steps = steps
        self._size = size
        self._arrange = arrange
        self._images: dict[int, Image.Image] = {}

    def add(self, places: Sequence[int], latents: Tensor) -> None:
        """An image that is there already, of latents (1, C, H, W) in the scale of the VAE."""
        self._set(places, self._latent_format.process_in(latents))

    def of_pass(self, places: Sequence[Sequence[int]], first_step: int) -> StepCallback:
        """The callback of a pass that starts with this step.

        ``places`` are those of its images: each may stand in several.
        """

        def callback(
            step: int,
            denoised: Tensor | NestedTensor,
            latents: Tensor | NestedTensor,
            steps_of_pass: int,
        ) -> None:
            each = denoised.unbind() if isinstance(denoised, NestedTensor) else [denoised]
            for of_image, image in zip(places, each, strict=True):
                self._set(of_image, image)
            preview = None
            if self._images:
                preview = ("JPEG", self._arrange(self._images), self._size)
            self._bar.update_absolute(first_step + step + 1, self._steps, preview)

        return callback

    def _set(self, places: Sequence[int], latents: Tensor) -> None:
        if self._previewer is not None:
            image = self._previewer.decode_latent_to_preview(latents)
            self._images |= dict.fromkeys(places, image)


class ImageProgress:
    """One progress bar over several images, and one preview of those that are there."""

    def __init__(
        self,
        images: int,
        size: int,
        arrange: Callable[[Mapping[int, Image.Image]], Image.Image],
    ) -> None:
        """``arrange`` makes one image of those so far, at most ``size`` pixels a side."""
        self._bar = comfy.utils.ProgressBar(images)
        self._count = images
        self._size = size
        self._arrange = arrange
        self._images: dict[int, Image.Image] = {}

    def add(self, number: int, image: Image.Image) -> None:
        """The image of this number is there; raises the host's exception where it was stopped."""
        self._images[number] = image
        preview = ("JPEG", self._arrange(self._images), self._size)
        self._bar.update_absolute(len(self._images), self._count, preview)
