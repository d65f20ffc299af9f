"""Give a group of commands a default verb: `harken review PATH` is `harken review serve PATH`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


def default_verb(verb: str) -> type[TyperGroup]:
    """Return the class of a command group in which `verb` is the default.

    It is used when the first argument is not a verb, and without arguments unless the group then shows its help.
    """

    class DefaultVerb(TyperGroup):
        """Insert the verb unless a verb or --help comes first."""

        default = verb

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            """Insert the verb unless a verb or --help comes first."""
            verbs = {*self.commands, "--help", "-h"}
            if (args and args[0] not in verbs) or (not args and not self.no_args_is_help):
                args = [verb, *args]
            return super().parse_args(ctx, args)

    return DefaultVerb
