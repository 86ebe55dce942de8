"""Stage embed: a face embedding of each crop, if the split or the audit asks for them.

data/pretrained/runs/embeddings.json names the weights; without a file there are no embeddings.
"""

import json

import numpy as np

from stages.core.files import atomic_write, check_digest
from stages.core.params import load_params
from stages.core.paths import CROPS, EMBEDDINGS, PRETRAINED, WEIGHTS_OF_EMBEDDINGS
from stages.core.stage import run_stage
from stages.faces.index import read_crops
from stages.networks import device


def main() -> None:
    """Embed all crops, or write an empty array."""
    weights = json.loads(WEIGHTS_OF_EMBEDDINGS.read_text(encoding="utf-8"))
    file, wanted = weights["file"], weights["sha256"]
    vectors = np.zeros((0, 1), np.float16)
    if file is not None:
        machine = load_params().machine
        device.prepare(machine.device, machine.memory_growth)
        from stages.identity.embeddings import embed

        check_digest(PRETRAINED / file, wanted)
        vectors = embed(read_crops(CROPS), PRETRAINED / file)
    with atomic_write(EMBEDDINGS) as partial, partial.open("wb") as target:
        np.save(target, vectors)
    count = f"{len(vectors)} embeddings of {vectors.shape[1]} numbers"
    print(f"embed: {count if len(vectors) else 'not asked for'}")


if __name__ == "__main__":
    run_stage(main)
