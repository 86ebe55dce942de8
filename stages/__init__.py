"""utkface-mtl: the stages of dvc.yaml (`python -m stages.<stage>`) and the library they call.

`stages.commands` has the verbs of the console command. Imports go down only:

- `reporting`, `inference`: pages and pictures; a trained model put to use.
- `comparison`, `evaluation`, `learning`: figures across runs, figures of one run, training.
- `networks`, `splitting`, `detection`, `dataset`: what a network is, and what it learns from.
- `runs`, `weights`, `remote`, `parallel`, `core`: what all of them stand on.
"""

import os

# onnxruntime's packages report to their maker from their import on, unless told not to before it
# (https://github.com/microsoft/onnxruntime/pull/27379; its release 1.32 for Linux does).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
