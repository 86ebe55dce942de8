"""Face crops with their labels: index.csv and crops.npy."""
