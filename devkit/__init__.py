"""Development without a set-up of one's own: an environment, a real ComfyUI, and a client that runs workflows on it. Stdlib only."""
