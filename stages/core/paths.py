"""Where every artifact stands, relative to the project's top folder. Formats: docs/reference."""

from pathlib import Path

PARAMS_FILE, VARIANTS_FILE = Path("params.yaml"), Path("variants.toml")
TEMPORARY_WORKSPACES = Path(".dvc/tmp/exps")
WORKFLOW_FILE, LOCK_FILE = Path("dvc.yaml"), Path("dvc.lock")

VALID_PARAMS = Path("data/valid-params.txt")
RAW = Path("data/raw")
PLANS, NEEDED_WEIGHTS = Path("data/plan"), Path("data/needed-weights.json")
PRETRAINED = Path("data/pretrained")
WEIGHTS_OF_RUNS = PRETRAINED / "runs"
WEIGHTS_OF_EMBEDDINGS = WEIGHTS_OF_RUNS / "embeddings.json"
FACES = Path("data/faces")
INDEX, CROPS = FACES / "index.csv", FACES / "crops.npy"
EMBEDDINGS = Path("data/embeddings.npy")
SPLIT = Path("data/split/split.csv")
FOLDS = Path("data/split/folds.csv")
CONFLICTING = Path("data/split/conflicting.csv")
PUBLISHED_LISTS = Path("data/split/published.csv")
LISTS = Path("data/lists")
MODELS = Path("models")
TRAINING = Path("data/training")
CURVES = Path("data/curves")
PREDICTIONS = Path("data/predictions")
EVALUATION = Path("data/evaluation")
AUDIT = Path("data/audit")
COMPARISON = Path("data/comparison")
REPORT, CARDS = Path("report/index.html"), Path("report/cards")

METRICS = Path("metrics")
DETECT_METRICS = METRICS / "detect.json"
SPLIT_METRICS = METRICS / "split.json"
AUDIT_METRICS = METRICS / "audit.json"

# Not tracked by DVC: no two runs take the same time; the next commit trains the same network.
TIMINGS, PROVENANCE = Path("data/timings"), Path("data/provenance")
TUNING = Path("data/tuning")
EXPORTS = Path("exports")
DOCS, RECORDS, PUBLISHED_SPLITS = Path("docs"), Path("docs/results"), Path("docs/splits")
FORGOTTEN_IMAGES, FORGOTTEN_MODELS = Path("forgotten/images.csv"), Path("forgotten/models.csv")

NETWORK_FILE, INPUT_SPEC_FILE = "model.keras", "preprocessor_config.json"


class RunPaths:
    """The artifacts of one run.

    Attributes:
        plan: what the run is, resolved from params.
        weights: which pretrained file it starts from.
        lists: the images that it trains on, validates with and is tested on.
        model: the folder with the network and what belongs to it.
        network: the network, as Keras saves it.
        images: the images that the network was trained and validated with.
        input_spec: how crops for the network are made, and the names of its classes.
        provenance: all that decides the network's bytes.
        history: the git commit that it was trained at; not tracked.
        training: the best epoch and its validation accuracies.
        curves: the folder of its learning curves, as DVCLive writes them.
        timing: how long it took; not tracked.
        metrics: its accuracies on the test images, for `dvc metrics`.
        evaluation: the folder of all other figures on the test images.
    """

    def __init__(self, run: str) -> None:
        """Of the run of this name."""
        file = f"{run}.json"
        self.run = run
        self.plan, self.weights, self.lists = (
            PLANS / file,
            WEIGHTS_OF_RUNS / file,
            LISTS / f"{run}.csv",
        )
        self.model = MODELS / run
        self.network, self.images = self.model / NETWORK_FILE, self.model / "images.csv"
        self.input_spec = self.model / INPUT_SPEC_FILE
        self.provenance, self.history = self.model / "provenance.json", PROVENANCE / file
        self.training, self.curves, self.timing = TRAINING / file, CURVES / run, TIMINGS / file
        self.metrics, self.evaluation = METRICS / file, EVALUATION / run

    def predictions(self, split: str) -> Path:
        """Its predictions for the images of a split, `test` or `val`."""
        return PREDICTIONS / f"{self.run}{'' if split == 'test' else f'.{split}'}.csv"
