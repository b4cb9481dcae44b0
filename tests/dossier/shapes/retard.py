"""Prints its menu at once, and the answer when the next line has been typed."""

import poste

desk = poste.Desk()
waited = 0
while True:
    print("1. Consulter\n2. Réserver\n3. Fin")
    choice = input("Choix ? ")
    for _ in range(waited):
        said = desk.lines.readline().strip()
        print(said.replace(";", "\n"))
    waited = 0
    if choice == "1":
        desk.send("LIST")
    elif choice == "2":
        desk.send("RES", input("Spectacle : "), input("Places : "))
    elif choice == "3":
        break
    waited = int(choice in ("1", "2"))
