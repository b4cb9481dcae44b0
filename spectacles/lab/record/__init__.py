"""What happened in a run, as data, and the drawings of it.

    with Recorder(head({"A": ["./client"]}, machine("/tmp")), "run.jsonl") as recorder, \
         World("dossier") as world, Gate(world, sink=recorder.sink) as gate: ...

    run = derive.run(store.load("run.jsonl"))
    print(drawings.terminal.draw(run))

    model      Run: lanes for tasks and for kernel objects; steps, transfers, holds. All drawings are drawn from it
    store      Record, Recorder: what the gate saw, in a file of JSON lines that is written as it happens
    derive     from a Record to a Run
    focus      from a Run to what matters in it
    sources    lines of source, for programs with -g
    drawings   from a Run to text: for a terminal, a page, Mermaid, Perfetto; of model alone

Below derive: draft.py, a step in the making; matching.py, which receive took which send; locks.py, who held what;
words.py, what people read.

Leans on display, gate, and on kernel for what bytes mean.
"""

__all__ = ["derive", "drawings", "focus", "model", "sources", "store"]
