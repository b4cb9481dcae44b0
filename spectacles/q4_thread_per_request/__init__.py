"""Question 4: one thread per request."""
