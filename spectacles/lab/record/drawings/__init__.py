"""The drawings of a run. Each is made from `Run` alone, and takes whatever stands in it for a stranger's.

    terminal     lanes in characters, for a terminal of at most 100 columns: the message is seen lying in the queue

It leans on `timeline` (what happens in which row, what lies where and for how long, who waits, who holds) and `said`
(what is said about a step, in French).
"""

__all__ = ["terminal"]
