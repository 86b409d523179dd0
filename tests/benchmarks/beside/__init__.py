"""What `versus.py` is made of."""
