"""The parts of one training step: loss, optimiser, precision."""
