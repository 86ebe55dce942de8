"""Names of runs: `<variant>[+native][+published-split | +fold-<i>][+seed-<n>]`.

A run is one training of a variant and its evaluation. Without a suffix it is the variant as
params.yaml has it; each suffix changes one thing:

- `native`: the pixels are preprocessed as the pretrained weights expect.
- `published-split`: trained and tested on the lists of the published protocol, which overlap.
- `fold-<i>`: tested on fold i of `split.folds`.
- `seed-<n>`: another seed for first weights, batch order, augmentation and dropout.

The outputs of a run carry its name: `models/<run>/`, `metrics/<run>.json`.
"""

import re
from dataclasses import dataclass

NATIVE, PUBLISHED_SPLIT, HONEST = "native", "published-split", "honest"
_FOLD, _SEED = "fold-", "seed-"
_NAME = re.compile(
    rf"(?P<variant>[^+]+)(?P<native>\+{NATIVE})?"
    rf"(?:\+(?P<split>{PUBLISHED_SPLIT}|{_FOLD}(?:0|[1-9]\d?)))?"
    rf"(?:\+{_SEED}(?P<seed>0|[1-9]\d{{0,8}}))?"
)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
FORM = f"<variant>[+{NATIVE}][+{PUBLISHED_SPLIT} | +{_FOLD}<i>][+{_SEED}<n>]"


def is_plain_name(name: str) -> bool:
    """Whether a variant or average may be called so.

    Its name is that of files and a part of keys, as `dvc exp run -S` takes them, where dots divide.
    """
    return _PLAIN.fullmatch(name) is not None


@dataclass(frozen=True)
class RunName:
    """A run's name and its parts.

    Attributes:
        text: the whole name.
        variant: a name from `variants` in params.yaml.
        native: whether the pixels are preprocessed natively, whatever the variant says.
        split: `honest`, `published-split` or `fold-<i>`.
        seed: in place of `seed` in params.yaml; None: that one.
    """

    text: str
    variant: str
    native: bool = False
    split: str = HONEST
    seed: int | None = None

    @classmethod
    def parse(cls, text: str) -> "RunName":
        """Read a name.

        Raises:
            ValueError: it has another form.
        """
        found = _NAME.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not of the form {FORM}")
        seed = found["seed"]
        return cls(
            text,
            found["variant"],
            found["native"] is not None,
            found["split"] or HONEST,
            None if seed is None else int(seed),
        )

    @property
    def suffix(self) -> str:
        """All suffixes, without the first `+`; empty for the variant as it stands."""
        return self.text.removeprefix(self.variant).removeprefix("+")

    @property
    def fold(self) -> int | None:
        """The number of the fold that is tested."""
        return int(self.split.removeprefix(_FOLD)) if self.split.startswith(_FOLD) else None

    @property
    def is_published_split(self) -> bool:
        """Whether the run follows the published protocol, so that its test images were seen."""
        return self.split == PUBLISHED_SPLIT
