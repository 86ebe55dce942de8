"""How fast it is, side by side with how it is done elsewhere: `python -m benchmarks.<name>`.

Each benchmark first proves that both sides give the same, then lets them take turns on the same
images in one run, and prints JSON: hardware, versions, the command, medians, spread, ratio and
the bar that the ratio is held against. Sizes are options; the defaults take a minute or two on
two cores. Results with their commands: docs/performance.md.

Not part of the installed package: run from the project's top folder, whose params.yaml counts.
"""

import stages  # noqa: F401 - switches onnxruntime's telemetry off, before any benchmark imports it
