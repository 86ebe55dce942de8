"""The nodes of dvc.yaml (`python -m stages.<node>`) and, below, the library they call.

- `stages.workspace`: the params file, whole-file writes, fetching files.
- `stages.faces`: from raw archives to labelled 100x100 face crops.
- `stages.learning`: backbones, heads, data feeding and the training recipe.
- `stages.reporting`: scores, plots, tables and the report, from files.
- `stages.inference`: a trained model put to use on anybody's pictures; it calls the others.

Arrows go one way: a node calls the library; no node imports a node; learning and
reporting know nothing of each other.
"""

import os

# onnxruntime's packages report to their maker from their import on, unless told not to before it
# (https://github.com/microsoft/onnxruntime/pull/27379; its release 1.32 for Linux does).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
