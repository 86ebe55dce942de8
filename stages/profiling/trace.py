"""A profiler's trace of some steps: where the time of a training goes.

TensorFlow's profiler writes it, https://www.tensorflow.org/guide/profiler: for each operation
when it ran on which device, and when the device waited. TensorBoard with its profile plug-in
shows it (`pip install tensorboard-plugin-profile; tensorboard --logdir FOLDER`).
"""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

SKIPPED = 2  # executions before the trace, which compile and allocate
TRACED = 10  # executions in it; it grows by megabytes each second


class Trace(keras.callbacks.Callback):
    """Trace up to `TRACED` executions (steps, or `steps_per_execution` of them) of one epoch.

    Args:
        folder: is made; the trace is in `plugins/profile/` below it.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.seen, self.running = folder, 0, False

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Start, or stop when enough is traced."""
        if self.seen == SKIPPED:
            tf.profiler.experimental.start(str(self.folder))
            self.running = True
        elif self.seen == SKIPPED + TRACED:
            self._stop()
        self.seen += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Stop: what is between epochs is no step."""
        self._stop()

    def _stop(self) -> None:
        if self.running:
            tf.profiler.experimental.stop()
            self.running = False
