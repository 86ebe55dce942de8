"""Stage plan: what each run is and how it is trained, resolved from params."""

from stages.core.files import remove_others, write_json
from stages.core.params import load_params
from stages.core.paths import NEEDED_WEIGHTS, PLANS, WEIGHTS_OF_EMBEDDINGS, RunPaths
from stages.core.stage import run_stage
from stages.runs.resolve import resolve


def main() -> None:
    """Write the plan of each run, and remove those of others."""
    params = load_params()
    plans = [resolve(params, run) for run in params.evaluated]
    for plan in plans:
        write_json(RunPaths(plan.run).plan, plan.model_dump())
    remove_others(PLANS, [RunPaths(run).plan for run in params.evaluated])
    # Beside the plans: another learning rate must not look for weights again.
    needed = {
        plan.run: [plan.network.backbone, plan.network.weights]
        for plan in plans
        if not plan.members
    }
    wanted = params.split.identity == "group" or params.audit.embeddings
    needed[WEIGHTS_OF_EMBEDDINGS.stem] = ["mobilenet", "vggface2" if wanted else "none"]
    write_json(NEEDED_WEIGHTS, needed)
    print(f"plan: {', '.join(params.evaluated)}")


if __name__ == "__main__":
    run_stage(main)
