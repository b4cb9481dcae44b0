"""Somebody's program: how it is built, started and spoken to.

    built = build("dossier", folder)                  # in a world of its own: make, or cc by what links
    profile = learn(built)                            # watches one run: who serves, how the client is spoken to
    with Bench(built.folder, profile) as bench: ...   # a fresh world, its server and clients driven as by a person

    building     build, Built, BuildError
    profile      Profile, and TOML: load, dump
    starting     which program is the server, and how it is started
    hints        what texts hint at: menus, questions, maps, usage messages; pure functions
    ours         the profile of one of the five questions
    learning     learn: what can be discovered is discovered
    driving      Bench, Client, Request, Answer: a world with the program in it; one thread drives everything
    tasks        what the tasks of a program do at this moment
    sites        Site, At: the calls between a request and its answer, and what is done at one of them

For whoever explores schedules: Bench(folder, profile, policy=...) puts a gate with that policy in the world; what is
served by bench.serve() and by bench.client("A", gated=True) is under it; Request.step() types the next line when the
client waits for one, and so can be called from any loop; Answer.operation() is what the judge of histories takes.

Leans on programs, kernel, gate and judge.
"""

__all__ = ["building", "driving", "hints", "learning", "ours", "profile", "sites", "starting", "tasks"]
