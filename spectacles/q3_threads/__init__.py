"""Question 3: the two children of question 2 become two threads."""
