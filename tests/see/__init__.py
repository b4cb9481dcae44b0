"""Worlds, looks, the live view, the gate: what shows other people's programs at work, tried on real ones."""
