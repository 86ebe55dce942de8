"""What every stage stands on: params, paths, files, errors."""
