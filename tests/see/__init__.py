"""Tests of what lets one see: looks into the kernel, the live view."""
