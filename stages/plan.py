"""Stage plan: what each run is and how it is trained, resolved from params."""

from stages.core.files import remove_others, write_json
from stages.core.params import load_params
from stages.core.paths import PLANS, RunPaths
from stages.core.stage import run_stage
from stages.runs.resolve import resolve


def main() -> None:
    """Write the plan of each run, and remove those of others."""
    params = load_params()
    files = [RunPaths(run).plan for run in params.runs]
    for run, file in zip(params.runs, files, strict=True):
        write_json(file, resolve(params, run).model_dump())
    remove_others(PLANS, files)
    print(f"plan: {', '.join(params.runs)}")


if __name__ == "__main__":
    run_stage(main)
