"""After question 5: a session with memory. The same server, whose clients have a basket."""
