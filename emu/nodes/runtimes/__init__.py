"""What containers do: images that emu knows, as built-in servers. `table.py` says which image is which."""
