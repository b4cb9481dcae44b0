"""What the five questions share. Imports nothing from above itself."""
