"""Tests. A package, so that `tests.helpers` is this one whatever else is installed."""
