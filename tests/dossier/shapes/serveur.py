"""Serves, without a word."""

import guichet

guichet.serve(7000)
