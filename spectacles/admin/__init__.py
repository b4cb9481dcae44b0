"""What looks after a box office while nobody serves there: the table, what dead servers left, certificates to try TLS.

Each module is one command of `spectacles`, with its main(). Nothing else is imported from outside.
"""
