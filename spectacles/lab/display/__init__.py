"""Shows things to people: what all commands of the lab share at the terminal, and figures the French way.

    terminal     rich's console, questions on a command line, an interruption that leaves nothing behind
    french       figures, units, and where a French line may end
    files        what people ask to be written: looked at before the work, written whole after it
    page         pages in HTML, from templates that escape; templates/base.html is what all pages are made from

Leans on `programs`, for the names of the questions. What it shows with, rich and jinja2, is imported when it shows.
"""

__all__ = ["files", "french", "page", "terminal"]
