"""A prompt, and words to be typed at it."""

import poste

desk = poste.Desk()
while True:
    words = input("> ").split()
    match words:
        case ["help"]:
            print("LISTE\nRESERVER <spectacle> <places>\nQUITTER")
        case ["LISTE"]:
            desk.shows()
        case ["RESERVER", show, seats]:
            desk.reserve(show, seats)
        case ["QUITTER"]:
            break
        case _:
            print("Commande inconnue, « help » pour la liste")
