"""What this package relies on in ComfyUI; look here first when a new version breaks it.

None of it is a promise of ComfyUI's, except for ``comfy_api``, which is not listed.
"""

NAMES = (
    "comfy.conds.CONDConstant",
    "comfy.conds.CONDRegular",
    "comfy.latent_formats.LatentFormat",
    "comfy.latent_formats.SD15",
)
