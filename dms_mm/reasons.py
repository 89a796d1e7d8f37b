"""What a user can do about a frozen part: from the reason in a report to a remedy."""

from __future__ import annotations

# The first entry whose text is in the reason.
REMEDIES: list[tuple[str, str]] = [
    ('an output of the model', 'outputs keep their size; pass forward_fn to return only what is used'),
    ('the vocabulary of an embedding', 'rows of a table are looked up by number and stay'),
    ('ignored by the config', 'take the entry out of `ignore` or `units`'),
    ('not used in the traced forward', 'pass example_inputs or forward_fn that reach it'),
    ('no rule for operator', 'add a rule for it: @dms_mm.tracing.rules.rule(name)'),
    ('that nothing prunes', 'its input is an input of the model, or frozen itself'),
    (
        'a normalisation that is no module',
        'move the norm into a module of its own: it is then recognised by what it computes',
    ),
    ('with a fixed tensor', 'what meets it is made in forward with a fixed length: make it a parameter or a buffer'),
    ('the slim forward fails', 'a number in its forward depends on the size: store it as an attribute of the module'),
    (
        'a reduction over pruned',
        'a mean or maximum over channels changes with their number: in a module of its own it runs on those that live',
    ),
    (
        'a convolution along pruned',
        'neighbours change with the channels that go: in a module of its own it runs on those that live',
    ),
    ('a module that runs on the channels that live', 'nothing to free: these weights have no channels of the model'),
    ('the width inside each group', 'whole groups of a grouped convolution go, not their width'),
    ('a cut through heads', 'an index picks heads or groups by number'),
    ('composed of channels that must stay', 'frees itself with the channels that it is composed of'),
    ('part of channels that must stay', 'frees itself with the channels that it is part of'),
]


def remedy_of(reason: str) -> str:
    """One line: what would free a part that was frozen for this reason."""
    return next((text for key, text in REMEDIES if key in reason), 'name the layers in `ignore` to hide this')
