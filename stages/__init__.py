"""utkface-mtl: the stages of dvc.yaml (`python -m stages.<stage>`) and the library they call.

`stages.commands` has the verbs of the console command. Imports go down only (the test of the
layout has the table); from the top:

- `inference`, `publishing`, `reporting`: a trained model put to use; pages and charts.
- `comparison`, `evaluation`, `tuning`, `learning`: figures across runs and of one run; training.
- `auditing`, `splitting`, `dataset`, `faces`: from face crops to the lists that a run reads.
- `detection`, `acquisition`, `raw`: from archives to face crops.
- `networks`, `weights`, `formats`: what a network is, and the files that hold one.
- `runs`, `parallel`, `core`: what all of them stand on.
"""

import os

# onnxruntime's packages report to their maker from their import on, unless told not to before it
# (https://github.com/microsoft/onnxruntime/pull/27379; its release 1.32 for Linux does).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
