"""How a training run is watched."""
