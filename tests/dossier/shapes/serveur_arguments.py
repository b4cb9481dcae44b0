"""Serves where it is told to, as many seats as it is told."""

import sys

import guichet

if len(sys.argv) != 3:
    sys.exit("Usage : serveur.py <port> <nb_places>")
guichet.SHOWS["1"][1] = int(sys.argv[2])
guichet.serve(int(sys.argv[1]))
