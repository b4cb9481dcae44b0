"""Question 5: TCP, one thread per connection."""
