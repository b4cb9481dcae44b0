"""`spectacles check`: is this program right, and how do you know?

    model        Outcome, Finding, Report: what a judgement is, and its JSON
    registry     check: the decorator that makes a function a check
    cards        what is said of each defect, from defects.toml

Leans on programs, display, kernel, gate, judge and dossier.
"""

__all__ = ["cards", "model", "registry"]
