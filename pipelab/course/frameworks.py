"""A planned layout as another framework takes it: the text, what it cannot say, who has read it."""

from html import escape

from ..errors import UsageError
from ..layout.planner import Plan
from .figures import COLOURS, Picture


def configured(found: Plan, framework: str, row: int = 0) -> Picture:
    """Show the configuration of a row, and ask the framework whether it takes it.

    Args:
        found: the plan.
        framework: "megatron", "deepspeed" or "torchtitan".
        row: its number.

    Returns:
        A picture: the text; a line for each thing that it cannot say; and whether the framework,
        where it is installed, has taken it. In place of the text, why the framework refuses it.

    Raises:
        UnknownName: there is no such framework.
    """
    from ..model.frameworks import ask

    try:
        text, cannot = found.to(framework, row)
    except UsageError as refusal:
        return Picture(f"<p>{_mark(taken=False)} {escape(str(refusal))}</p>")
    parts = [f'<pre style="white-space:pre-wrap;font-size:12px">{escape(text)}</pre>']
    if cannot:
        lines = "".join(f"<li>{escape(one)}</li>" for one in cannot)
        parts.append(f"<p>What it cannot say:</p><ul>{lines}</ul>")
    taken, sentence = ask(framework, found.model, found.rows[row].layout)
    parts.append(f"<p>{_mark(taken=taken)} {escape(sentence)}</p>")
    return Picture("".join(parts))


def _mark(*, taken: bool | None) -> str:
    sign, colour = {
        True: ("✓", COLOURS["truth"]),
        False: ("✗", COLOURS["machine"]),
        None: ("?", COLOURS["guess"]),
    }[taken]
    return f'<b style="color:{colour}">{sign}</b>'
