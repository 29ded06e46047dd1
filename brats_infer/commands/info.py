"""`brats-opt info`."""

import json
from pathlib import Path

import click

from brats_infer.commands.options.options import SHIPPED, TARGET, debug, option


@click.command()
@option("--weights", type=TARGET, show_default=SHIPPED)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@debug
def info(weights: Path | None, as_json: bool) -> None:
    """Show what would run on what: version, device, networks with their hashes."""
    from brats_infer.commands.installation import describe, render

    facts = describe(weights)
    click.echo(json.dumps(facts, indent=2) if as_json else render(facts))
