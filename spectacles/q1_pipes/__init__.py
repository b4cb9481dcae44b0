"""Question 1: five named FIFOs, shared memory, a named semaphore, two forked children."""
