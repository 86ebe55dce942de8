"""The verbs of the console command `utkface-mtl`, one module each."""
