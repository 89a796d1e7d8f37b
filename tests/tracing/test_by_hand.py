"""What a forward normalises by hand is searched where no mask makes zero what it divides by."""

import pytest

import dms_mm
from builders.exact import check_exact
from builders.kinds_hand import KINDS, build


@pytest.mark.parametrize('name', KINDS)
def test_masked_and_slim_agree(name):
    model, inputs = build(name)
    wanted = KINDS[name][1]
    if wanted:
        space = check_exact(model, inputs)
        assert {unit.name: unit.size for unit in space.units.values()} == wanted
        # The rules know; nothing is left to the proof by numbers.
        assert not space.frozen
        return
    with pytest.raises(ValueError, match='nothing to search') as caught:
        dms_mm.make_searchable(model, inputs)
    assert 'zero' in str(caught.value) and 'by numbers' not in str(caught.value)
