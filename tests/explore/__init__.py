"""The explorer: races found by their schedule, sound programs proven so, schedules played again."""
