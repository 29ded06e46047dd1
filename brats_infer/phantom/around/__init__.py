"""What lies around a brain: sinuses, remains of the head after skull stripping, or the whole head."""
