"""No menu: questions, one answer that tells what is left, and the end."""

import poste

name = input("Votre nom : ")
show = input("Numéro du spectacle (1-3) : ")
seats = input("Nombre de places : ")
said, left = poste.Desk().ask("RES", show, seats).split()
if said == "OK":
    print(f"Merci {name}, c'est réservé. Il reste {left} places.")
else:
    print(f"Désolé {name}, il ne reste que {left} places.")
