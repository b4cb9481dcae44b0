"""Which task moves next: every order that matters of a few programs, and the one that goes wrong, played again.

    scenario    Scenario, Actor, Content, Service: programs, and what must hold
    profiles    of_profile(): a scenario from what is known of somebody's program
    explorer    explore(): plays schedules until one goes wrong, or all up to k preemptions are done; Report
    replay      replay(): a script on a scenario, in a fresh world, without the explorer
    stage       Stage: plays one schedule after the other in one world
    verdict     Failure, Why; judge(): what is wrong with one run
    words       a run as one reads it, and as a script

Below explorer: points.py says what a step touches; order.py and search.py which schedules differ in more than the
order of independent steps; pool.py shares them out; warm.py is where programs of ours are copied from; witness.py asks
Helgrind.

Leans on programs, gate and judge.
"""

__all__ = ["explorer", "profiles", "replay", "scenario", "stage", "verdict", "words"]
