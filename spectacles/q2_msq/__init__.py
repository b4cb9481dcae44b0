"""Question 2: one System V message queue; the PID of a client is the type of its reply."""
