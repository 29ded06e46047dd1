"""The official scores of 2024 (github.com/rachitsaluja/BraTS-2024-Metrics), one step of them a module."""
