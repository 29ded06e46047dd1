"""The machine: cores, signals, file owners, the console."""
