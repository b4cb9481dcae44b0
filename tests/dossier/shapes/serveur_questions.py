"""Asks how large the hall is before it serves."""

import guichet

rows = int(input("Nombre de rangées : "))
columns = int(input("Nombre de colonnes : "))
guichet.SHOWS["1"][1] = rows * columns
guichet.serve(7000)
