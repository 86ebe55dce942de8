"""Stage average: one network that averages the networks of other runs.

It depends on the folder data/training, which names every run's network by its digest: a dependency
on models/ would be one on its own output.
"""

import pandas as pd

from stages.core.errors import UserError
from stages.core.files import atomic_write, digest, read_json, write_csv, write_json
from stages.core.paths import RunPaths
from stages.core.stage import run_stage
from stages.dataset.examples import read_used
from stages.learning.provenance import environment
from stages.networks import device
from stages.runs.resolve import read_plan, run_parser


def main() -> None:
    """Build the average named on the command line from its members' networks."""
    plan = read_plan(run_parser(__doc__).parse_args().run)
    device.prepare("cpu")
    from stages.networks.network import average_network, load_network, save_network

    paths, members = RunPaths(plan.run), [RunPaths(run) for run in plan.members]
    digests = {}
    for member in members:
        digests[member.run] = read_json(member.training, f"train@{member.run}")["network"]
        if digest(member.network) != digests[member.run]:
            raise UserError(
                f"{member.network}: not the network that {member.training} names; "
                f"run `dvc repro -f train@{member.run}`"
            )
    try:
        model = average_network([load_network(member.network) for member in members], plan.flip)
    except ValueError as error:
        raise UserError(f"variants.toml: averages.{plan.run}: {error}") from None
    with atomic_write(paths.network) as partial:
        save_network(model, partial)
    used = pd.concat([read_used(member.images) for member in members])
    write_csv(paths.images, used.drop_duplicates())
    write_json(paths.input_spec, plan.input_spec.model_dump())
    facts = {"run": plan.run, "members": digests, "flip": plan.flip}
    network = {paths.network.name: digest(paths.network)}
    write_json(paths.provenance, facts | environment("average") | network)
    print(f"average: {plan.run}: {len(members)} networks{', each on both sides' * plan.flip}")


if __name__ == "__main__":
    run_stage(main)
