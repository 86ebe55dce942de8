"""Files of networks: layouts of weights, and how untrusted files are read."""
