"""Looks: what the kernel knows of processes and of the machine, read from outside and never touched.

    processes    threads, memory, CPU time and context switches of a process
    machine      the processor, the kernel, the file system

Leans on nothing.
"""

__all__ = ["machine", "processes"]
