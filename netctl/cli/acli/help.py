"""What the word help says."""

from __future__ import annotations

from netctl.cli.acli.answers import Answer, table
from netctl.cli.acli.parser import Call, unknown
from netctl.cli.acli.words import WORDS, usage


def show(call: Call) -> Answer:
    """All words, or those that begin as the one named; how it is used where it is one."""
    if not call.names:
        return table(("Command", "What it does"), [(name, word.help) for name, word in WORDS.items()])
    name = call.names[0].lower()
    if name not in WORDS:
        same = [each for each in WORDS if each.startswith(name.rstrip(".") + ".")]
        if not same:
            raise unknown(call.names[0])
        return table(("Command", "What it does"), [(each, WORDS[each].help) for each in same])
    word = WORDS[name]
    lines = [usage(name), f"  {word.help}"]
    lines += [f"  {key}: no effect: {why}" for key, why in word.idle.items()]
    data = {"command": name, "usage": usage(name), "help": word.help, "no_effect": dict(word.idle)}
    return Answer("\n".join(lines), data)
