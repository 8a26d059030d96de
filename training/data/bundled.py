"""Files that come with the pack."""

from __future__ import annotations

from pathlib import Path

_MODELS = Path(__file__).parents[2] / "models"

TINY_FILE = _MODELS / "vae" / "fit_tiny_vae.safetensors"
BUNDLED_CHECKPOINT = _MODELS / "fit" / "fitv2_flags256.safetensors"
