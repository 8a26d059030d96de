"""What this package relies on in ComfyUI; look here first when a new version breaks it.

None of it is promised by ComfyUI. The promised ``comfy_api`` is not listed. ``tests/host`` compares
``NAMES`` with the imports, and looks for ``NAMES`` and ``METHODS`` in a ComfyUI.
"""

NAMES = (
    "comfy.conds.CONDConstant",
    "comfy.conds.CONDRegular",
    "comfy.latent_formats.LatentFormat",
    "comfy.latent_formats.SD15",
    "comfy.ldm.common_dit.pad_to_patch_size",
    "comfy.ldm.modules.attention.optimized_attention",
    "comfy.model_base.BaseModel",
    "comfy.model_base.ModelType",
    "comfy.model_management.get_torch_device",
    "comfy.model_management.intermediate_device",
    "comfy.model_management.intermediate_dtype",
    "comfy.model_management.is_device_cpu",
    "comfy.model_management.unet_dtype",
    "comfy.model_management.unet_manual_cast",
    "comfy.model_management.unet_offload_device",
    "comfy.model_patcher.CoreModelPatcher",
    "comfy.model_patcher.ModelPatcher",
    "comfy.nested_tensor.NestedTensor",
    "comfy.patcher_extension.WrapperExecutor.new_class_executor",
    "comfy.patcher_extension.WrappersMP.APPLY_MODEL",
    "comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL",
    "comfy.patcher_extension.get_all_wrappers",
    "comfy.sample.fix_empty_latent_channels",
    "comfy.sample.prepare_noise",
    "comfy.sample.sample_custom",
    "comfy.samplers.KSAMPLER",
    "comfy.samplers.calc_cond_batch",
    "comfy.supported_models_base.BASE",
    "comfy.utils.DISABLE_MMAP",
    "comfy.utils.PROGRESS_BAR_ENABLED",
    "comfy.utils.ProgressBar",
    "comfy.utils.pack_latents",
    "comfy.utils.repeat_to_batch_size",
    "comfy.utils.unpack_latents",
    "folder_paths.add_model_folder_path",
    "folder_paths.folder_names_and_paths",
    "folder_paths.get_filename_list",
    "folder_paths.get_folder_paths",
    "folder_paths.get_full_path",
    "folder_paths.models_dir",
    "folder_paths.supported_pt_extensions",
    "latent_preview.MAX_PREVIEW_RESOLUTION",
    "latent_preview.get_previewer",
    "latent_preview.prepare_callback",
    "server.PromptServer",
)
"""Imported and used."""

METHODS = (
    "comfy.model_base.BaseModel.extra_conds",
    "comfy.model_base.BaseModel.load_model_weights",
    "comfy.model_base.BaseModel.memory_required",
    "comfy.model_base.BaseModel.process_timestep",
    "comfy.model_base.BaseModel.state_dict_for_saving",
    "comfy.model_base.ModelType.EPS",
    "comfy.model_base.ModelType.FLOW",
    "comfy.model_patcher.ModelPatcher.clone",
    "comfy.model_patcher.ModelPatcher.is_dynamic",
    "comfy.model_patcher.ModelPatcher.set_model_sampler_post_cfg_function",
    "comfy.nested_tensor.NestedTensor.unbind",
    "comfy.patcher_extension.WrapperExecutor.execute",
    "comfy.supported_models_base.BASE.get_model",
    "comfy.supported_models_base.BASE.set_inference_dtype",
    "comfy.utils.ProgressBar.update_absolute",
    "latent_preview.LatentPreviewer.decode_latent_to_preview",
    "server.PromptServer.add_routes",
)
"""Called on objects of ComfyUI, or overridden for it to call."""

KEYS = {
    "conditioning": ("cross_attn", "latent_shapes", "model_conds", "noise", "pooled_output"),
    "LATENT": ("batch_index", "downscale_ratio_spacial", "noise_mask", "samples"),
    "model_options": (
        "sampler_calc_cond_batch_function",
        "sampler_cfg_function",
        "sampler_post_cfg_function",
        "transformer_options",
    ),
    "ModelPatcher": ("object_patches", "wrappers"),
    "PromptServer": ("instance", "routes"),
    "transformer_options": (
        "optimized_attention_override",
        "patches_replace",
        "rope_options",
        "wrappers",
    ),
    "unet_config": ("image_model",),
}
"""Keys of ComfyUI's dicts, and attributes of its objects."""
