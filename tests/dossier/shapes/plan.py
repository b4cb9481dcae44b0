"""A map of the hall, and seats that are taken by row and column."""

import poste

desk = poste.Desk()
while True:
    print("1. Afficher la salle\n2. Réserver une place\n0. Quitter")
    choice = input("Choix : ")
    if choice == "1":
        print("Scène")
        for number, row in enumerate(desk.ask("HALL").split(";"), 1):
            print(number, " ".join(row))
    elif choice == "2":
        said = desk.ask("SEAT", input("Rangée : "), input("Colonne : "))
        print("Place réservée." if said == "OK" else "Erreur : place déjà prise.")
    else:
        break
