"""Where every artifact stands, relative to the project's top folder. Formats: docs/reference."""

from dataclasses import dataclass
from pathlib import Path

PARAMS_FILE, VARIANTS_FILE = Path("params.yaml"), Path("variants.toml")
WORKFLOW_FILE = Path("dvc.yaml")

VALID_PARAMS = Path("data/valid-params.txt")
RAW = Path("data/raw")
PLANS, NEEDED_WEIGHTS = Path("data/plan"), Path("data/needed-weights.json")
PRETRAINED = Path("data/pretrained")
WEIGHTS_OF_RUNS = PRETRAINED / "runs"
FACES = Path("data/faces")
INDEX, CROPS = FACES / "index.csv", FACES / "crops.npy"
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


@dataclass(frozen=True)
class RunPaths:
    """The artifacts of one run.

    Attributes:
        run: its name, `<variant>` with suffixes.
    """

    run: str

    @property
    def plan(self) -> Path:
        """What the run is, resolved from params."""
        return PLANS / f"{self.run}.json"

    @property
    def weights(self) -> Path:
        """Which pretrained file it starts from."""
        return WEIGHTS_OF_RUNS / f"{self.run}.json"

    @property
    def lists(self) -> Path:
        """Which images it trains on, validates with and is tested on."""
        return LISTS / f"{self.run}.csv"

    @property
    def model(self) -> Path:
        """The folder with the network and what belongs to it."""
        return MODELS / self.run

    @property
    def network(self) -> Path:
        """The network, as Keras saves it."""
        return self.model / NETWORK_FILE

    @property
    def images(self) -> Path:
        """The images that the network was trained and validated with."""
        return self.model / "images.csv"

    @property
    def input_spec(self) -> Path:
        """How crops for the network are made, and what its classes are called."""
        return self.model / INPUT_SPEC_FILE

    @property
    def provenance(self) -> Path:
        """All that the network follows from."""
        return self.model / "provenance.json"

    @property
    def history(self) -> Path:
        """The git commit that it was trained at; not tracked."""
        return PROVENANCE / f"{self.run}.json"

    @property
    def training(self) -> Path:
        """The best epoch and its validation accuracies."""
        return TRAINING / f"{self.run}.json"

    @property
    def curves(self) -> Path:
        """The folder of its learning curves, as DVCLive writes them."""
        return CURVES / self.run

    @property
    def timing(self) -> Path:
        """How long it took; not tracked."""
        return TIMINGS / f"{self.run}.json"

    @property
    def metrics(self) -> Path:
        """Its accuracies on the test images, for `dvc metrics`."""
        return METRICS / f"{self.run}.json"

    @property
    def evaluation(self) -> Path:
        """The folder of all other figures on the test images."""
        return EVALUATION / self.run

    def predictions(self, split: str) -> Path:
        """Its predictions for the images of a split, `test` or `val`."""
        return PREDICTIONS / f"{self.run}{'' if split == 'test' else f'.{split}'}.csv"
