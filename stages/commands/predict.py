"""Age group, gender and race of every face in pictures: `utkface-mtl predict`.

The model defines how faces are detected and cropped (preprocessor_config.json, or the metadata of
the ONNX file). An unreadable image is reported in its place; the exit status is then 3, else 0.
"""

import argparse
import os
import sys
from pathlib import Path

from tqdm import tqdm

from stages.core.errors import UserError, printable
from stages.inference.face_extraction import UNREADABLE, face_extractor
from stages.inference.inputs import LIMITS, STANDARD_INPUT, read_inputs
from stages.inference.models import RELEASED, Model, find_model, label_of, open_detector, open_model
from stages.inference.predictions import predict_stream
from stages.inference.writers import FORMATS, open_writer
from stages.networks.prediction import BATCH_SIZE
from stages.parallel.threads import side_by_side
from stages.raw.archives import Member

SOME_UNREADABLE = 3  # the exit status


def main() -> None:
    """Predict what the command line names."""
    arguments = _parse()
    model = open_model(find_model(arguments.model), arguments.device)
    # Of the released model nobody has figures to compare with.
    is_released = model.path == RELEASED
    calibrated = arguments.calibrated or (is_released and not arguments.flip_tta)
    if calibrated:
        _check_calibration(model, arguments.flip_tta)
    cautions = list(model.cautions)
    if is_released and not calibrated:
        cautions.append("With --flip-tta its probabilities are not calibrated.")
    if cautions:
        label = printable(label_of(model.path))
        print(f"caution: {label}: {' '.join(cautions)}", file=sys.stderr)
    detector = None
    if not arguments.no_detect:
        detector = open_detector(model, arguments.detector, arguments.device)
    extract = face_extractor(model.input_spec, detector, arguments.faces == "all")
    members = read_inputs(arguments.inputs, LIMITS, sys.stdin.buffer)
    extracted = side_by_side(extract, members, arguments.threads, Member.weight)
    images = (image for _, image in extracted)
    options = (arguments.batch_size, arguments.flip_tta, calibrated)
    stream = predict_stream(images, model, *options)
    counts = {"images": 0, "faces": 0, UNREADABLE: 0}
    # Rows on a terminal are progress enough.
    quiet = True if arguments.output is None and sys.stdout.isatty() else None
    try:
        with open_writer(arguments.format, arguments.output, model) as write:
            for predictions in tqdm(stream, "predicting", unit="image", disable=quiet):
                write(predictions)
                counts["images"] += 1
                counts["faces"] += len(predictions.outputs)
                counts[UNREADABLE] += predictions.image.status == UNREADABLE
    except BrokenPipeError:  # the reader, `head` for example, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if arguments.output is not None:
        summary = ", ".join(f"{number} {what}" for what, number in counts.items())
        print(f"predict: {summary}; {arguments.output}")
    if counts[UNREADABLE]:
        sys.exit(SOME_UNREADABLE)


def _check_calibration(model: Model, flip_tta: bool) -> None:
    if model.calibration is None:
        text = "is not evaluated, or too few validation images say how confident to be"
        raise UserError(f"--calibrated: {model.path} has no temperatures: it {text}")
    if bool(model.calibration.flip_tta) != flip_tta:
        which = "without the mirror image; leave out" if flip_tta else "with the mirror image; add"
        text = f"the temperatures of {model.path} hold for outputs {which} --flip-tta"
        raise UserError(f"--calibrated: {text}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("inputs", nargs="*", help="images, folders, archives (tar, tar.gz, zip), - for stdin")
    add("--model", help="a run, models/<run> or an exported file; default: the released model")
    add("--format", choices=FORMATS, default=FORMATS[0], help="%(default)s")
    add("--output", type=Path, help="file; for pictures a folder; default: standard output")
    add("--no-detect", action="store_true", help="the images are crops already")
    add("--faces", choices=("all", "one"), default="all", help="one: as detect.face says")
    add("--batch-size", type=int, default=BATCH_SIZE, help="faces a step; %(default)s")
    add("--flip-tta", action="store_true", help="mean with the mirror image; evaluate.flip_tta")
    add("--calibrated", action="store_true", help="temperature scaling; default if released")
    add("--detector", type=Path, help="the detector's weights file, by hand")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="%(default)s")
    add("--threads", type=int, default=os.cpu_count() or 1, help="of the detector; %(default)s")
    arguments = parser.parse_args()
    if not arguments.inputs:
        if sys.stdin.isatty():
            parser.error("name at least one image, folder or archive, or pipe an image in")
        arguments.inputs = [STANDARD_INPUT]
    if "" in arguments.inputs:  # for Path it is the working directory
        raise UserError("'': an empty name; `.` is the working directory")
    if min(arguments.batch_size, arguments.threads) < 1:
        parser.error("--batch-size and --threads must be at least 1")
    if arguments.format == "pictures" and arguments.output is None:
        parser.error("--format pictures needs --output, the folder that they go to")
    return arguments
