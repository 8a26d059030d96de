"""A scaling study that takes seconds."""

STUDY = """
sizes:
  S: {hidden_size: 16, num_heads: 2, depth: 2, steps: 2}
families:
  FiTv2: [S]
  FiT: [S]
measured_at: [1]
shapes: {training: 12, held_out: 6, image_size: 32}
held_out_times: 2
training:
  precision: fp32
  batch: {token_budget: 16, workers: 0}
  samples: {every: 0}
  logging: {tracker: none, utilisation: false}
"""
