"""Many cases: threads, timing, failures, events."""
