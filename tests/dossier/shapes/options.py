"""Wants an address and a port."""

import sys

import poste

if len(sys.argv) != 3:
    sys.exit("Usage : client.py <adresse> <port>")
desk = poste.Desk(sys.argv[1], int(sys.argv[2]))
while True:
    print("1. Consulter\n2. Réserver\n3. Quitter")
    choice = input("Choix : ")
    if choice == "1":
        desk.shows()
    elif choice == "2":
        desk.reserve(input("Spectacle : "), input("Places : "))
    else:
        break
