"""An account must be made first; its number is told, and asked for."""

import poste

desk = poste.Desk()
while True:
    print("1. Connexion\n2. Inscription\n3. Quitter")
    choice = input("Votre choix : ")
    if choice == "2":
        print("Votre numéro est", desk.ask("SIGNUP", input("Nom : "), input("Mot de passe : ")))
    elif choice == "1":
        if desk.ask("LOGIN", input("Numéro de client : "), input("Mot de passe : ")) == "OK":
            break
        print("Identification refusée")
    else:
        raise SystemExit
while True:
    print("1. Voir les spectacles\n2. Réserver\n3. Se déconnecter")
    choice = input("Votre choix : ")
    if choice == "1":
        desk.shows()
    elif choice == "2":
        desk.reserve(input("Numéro du spectacle : "), input("Nombre de places : "))
    else:
        break
