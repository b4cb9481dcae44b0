"""One box office, five kinds of UNIX inter-process communication."""

__version__ = "0.1.0"
