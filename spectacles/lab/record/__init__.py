"""What happened in a run, as data, and the drawings of it.

    model      Run: lanes for tasks and for kernel objects; steps, transfers, holds. All drawings are drawn from it
    drawings   made from a Run alone: in a terminal, as a page, for Mermaid, for Perfetto

Leans on display and kernel.
"""

__all__ = ["drawings", "model"]
