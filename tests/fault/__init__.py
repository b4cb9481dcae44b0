"""The fault suite: what the servers promise (docs/reliability.md), attacked."""
