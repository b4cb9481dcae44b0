"""A menu in a menu, to whose top one comes back; a reservation is to be confirmed."""

import poste

desk = poste.Desk()
while True:
    print("1) Horaires\n2) Billetterie\n3) Quitter")
    choice = input("> ")
    if choice == "1":
        print("Ouvert de 10 h à 18 h")
    elif choice == "3":
        break
    elif choice == "2":
        print("a) Places disponibles\nb) Acheter des billets\nc) Retour")
        choice = input("> ")
        if choice == "a":
            desk.shows()
        elif choice == "b":
            show, seats = input("Quel spectacle ? "), input("Combien de billets ? ")
            if input("Confirmez-vous (o/n) ? ") == "o":
                desk.reserve(show, seats)
