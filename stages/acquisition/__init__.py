"""Where the raw archives come from: downloads, local files, drawn portraits."""
