"""Further than question 2: several servers on one queue; each side's PID is the type of what the other sends."""
