"""What the five questions share. Imports nothing from above itself.

"defect N", here and in every module, is a fault of the original programs: docs/defects.md lists all 21.

Modules that servers import write `TYPE_CHECKING = False` where others import the name from typing, which would cost
a server its start and its memory: type checkers take the name for true wherever it comes from.
"""
