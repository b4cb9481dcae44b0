"""What looks after a box office while nobody serves there: the table, what dead servers left, certificates to try TLS.

Each module is one command of `spectacles`, with its main(); `include` says where the header for C programs lies.
Nothing else is imported from outside.
"""
