"""The drawings of a run. Each is made from `Run` alone, and takes whatever stands in it for a stranger's.

    terminal     lanes in characters, for a terminal of at most 100 columns: the message is seen lying in the queue
    page         one page in HTML that asks the network for nothing; one run, or two beside each other
    mermaid      a sequence diagram in the language of Mermaid, for a report
    perfetto     Chrome's trace JSON, on a scale of time, for ui.perfetto.dev

They share `timeline` (what happens in which row, what lies where and for how long, who waits, who holds), `said` (what
is said about a step, in French) and `folding` (what is not drawn row by row).
"""

__all__ = ["mermaid", "page", "perfetto", "said", "terminal", "timeline"]
