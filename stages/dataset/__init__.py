"""What a run trains on, validates with and is tested on."""
