"""From the scanner to a BraTS case, and back: studies in, label maps on the patient's own images out."""
