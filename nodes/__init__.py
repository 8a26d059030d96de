"""ComfyUI's side of the pack."""
