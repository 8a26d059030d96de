"""Fine-tuning and LoRA on the bundled checkpoint; README.md has the commands and the results."""
