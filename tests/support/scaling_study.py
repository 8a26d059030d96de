"""A scaling study that takes seconds."""

STUDY = """
seeds: [0, 1]
sizes:
  S: {hidden_size: 16, num_heads: 2, depth: 2, steps: 2}
variants:
  FiTv2: {sizes: [S]}
  FiT: {sizes: [S], architecture: FiT, training: {batch: {crop: 0}}}
compared:
  - {part: convergence, change: all of it, before: FiT, after: FiTv2}
  - {part: ablation, change: everything, before: FiT, after: FiTv2}
measured_at: [1]
drawings: {count: 24, side: 48, image_size: 32}
held_out:
  trained shapes: {count: 6, image_size: 32, sample: "1:1"}
  larger: {count: 6, image_size: 48}
held_out_times: 2
distances: {per_class: 1, steps: 2, measured_at: [1], references: 24, classifier: 48}
training:
  precision: fp32
  batch: {token_budget: 16, workers: 0}
  optimizer: {learning_rate: 1.0e-2, warmup_steps: 0}
  ema_decays: [0.5]
  samples: {every: 0}
  logging: {tracker: none, utilisation: false}
"""
