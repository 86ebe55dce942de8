"""Node plan: what each variant of the suite is and how it learns, resolved from params."""

from stages.core.errors import run_stage
from stages.core.files import remove_others, write_json
from stages.core.params import load_params
from stages.runs.resolve import PLANS, resolve


def main() -> None:
    """Write the plan of each variant of the suite, and remove those of others."""
    params = load_params()
    for variant in params.suite:
        write_json(PLANS / f"{variant}.json", resolve(params, variant))
    remove_others(PLANS, [PLANS / f"{variant}.json" for variant in params.suite])
    print(f"plan: {', '.join(params.suite)}")


if __name__ == "__main__":
    run_stage(main)
