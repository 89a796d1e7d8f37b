"""What a search knows of every unit: measured alike by all rules that measure it, and carried to the end."""

import json
import statistics

import pytest
import torch

import dms_mm
from builders.small import driven, searchable, train
from dms_mm.algorithms.rules.average import Average
from dms_mm.slimming.structure import digest
from dms_mm.topk import TopkBank
from dms_mm.visualization import unit_table

RULES = ('balanced', 'bayes')


@pytest.mark.parametrize('weights', ['even', 'growing', 'falling'])
def test_running_sums_are_the_weighted_averages_and_their_errors(weights):
    steps, units = 37, 6
    values = torch.randn(steps, units, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values += torch.linspace(-1, 1, units)
    weight = {
        'even': torch.ones(steps),
        'growing': torch.arange(1.0, steps + 1),
        'falling': torch.arange(steps, 0, -1.0),
    }
    part = (weight[weights] / weight[weights].sum()).double()
    average = Average(TopkBank([4] * units, [4.0] * units, [1] * units), 'own')
    for value, w in zip(values, weight[weights].tolist()):
        average.add(value, w)
    mean, error = average.told()
    torch.testing.assert_close(mean, part @ values)
    torch.testing.assert_close(error, part @ (values - mean).square() / (1 / part.square().sum() - 1))
    if weights == 'even':
        torch.testing.assert_close(error, values.var(0) / steps)


@pytest.mark.parametrize('rule', RULES)
def test_noise_has_little_confidence_and_a_signal_has(rule):
    noise = [statistics.mean(driven(rule, 1.0, seed=s)[1].confidence().values()) for s in range(3)]
    assert statistics.mean(noise) < 0.3
    signal = torch.linspace(-1, 1, 10, dtype=torch.float64)
    known = driven(rule, 0.1, signal)[1].confidence()
    assert sum(value > 0.9 for value in known.values()) >= 8 and all(0 <= value <= 1 for value in known.values())


def test_units_that_are_hard_keep_what_was_known_of_them():
    space = searchable()
    first, fixed = list(space.units)[:2]
    space.set_keep({fixed: 20})
    search = dms_mm.Search(space, {'macs': 0.4}, 20, warmup=0.0, widths_only=0.3)
    assert search.confidence() == {}
    seen = []
    train(space, search, 20, each=lambda: seen.append(search.confidence()))
    depths = [name for name, unit in space.units.items() if unit.kind == 'depth']
    assert depths and all(fixed not in known for known in seen)
    assert set(seen[-1]) == set(space.units) - {fixed}
    assert all(known[name] == seen[-1][name] for known in seen[-5:] for name in depths)
    assert search.finalize().units[first]['confidence'] == round(seen[-1][first], 3)
    assert search.confidence() == seen[-1]


def test_it_resumes_to_the_bit():
    def begin(space):
        return dms_mm.Search(space, {'macs': 0.4}, 12, warmup=0.0)

    whole, first, second = searchable(), searchable(), searchable()
    train(whole, search := begin(whole), 12)
    train(first, half := begin(first), 7)
    state = half.state_dict()
    second.model.load_state_dict(first.model.state_dict())
    begin(second).load_state_dict(state)
    train(second, rest := begin(second), 5, 7)
    assert rest.finalize() == search.finalize()
    assert rest.confidence() == search.confidence() and rest.confidence()


def test_the_structure_file_the_report_and_the_table_carry_it(tmp_path):
    search = driven('balanced', 0.1, torch.linspace(-1, 1, 10, dtype=torch.float64))[1]
    unit = max(known := search.confidence(), key=known.get)
    structure, path = search.finalize(), tmp_path / 'structure.json'
    value = structure.units[unit]['confidence']
    assert value == round(search.confidence()[unit], 3) > 0
    structure.save(path)
    assert dms_mm.Structure.load(path) == structure
    assert f'confidence {value:.2f}' in search.space.report(structure)
    lines = unit_table(structure).splitlines()
    assert lines[0].endswith('| confidence |') and lines[1].count('---') == 6
    assert next(line for line in lines if f'| {unit} |' in line).endswith(f'| {value:.2f} |')
    content = json.loads(path.read_text())
    content['units'][unit]['confidence'] = 0.5
    path.write_text(json.dumps(content))
    with pytest.raises(dms_mm.StructureError, match='digest'):
        dms_mm.Structure.load(path)
    for wrong in (1.01, -0.1, '1', None, True):
        content['units'][unit]['confidence'] = wrong
        path.write_text(json.dumps({**content, 'digest': digest(content)}))
        with pytest.raises(dms_mm.StructureError, match='confidence'):
            dms_mm.Structure.load(path)


def test_a_rule_that_does_not_measure_it_tells_none(tmp_path):
    space = searchable()
    search = dms_mm.Search(space, {'macs': 0.4}, 6, rule='paper')
    train(space, search, 6)
    structure = search.finalize()
    assert search.confidence() == {} and not any('confidence' in unit for unit in structure.units.values())
    assert 'confidence' not in space.report(structure) + unit_table(structure)
    structure.save(tmp_path / 'structure.json')
    assert dms_mm.Structure.load(tmp_path / 'structure.json') == structure


@pytest.mark.parametrize('rule', ['balanced', 'bayes'])
def test_a_search_of_an_older_revision_goes_on_and_says_what_begins_anew(rule, caplog):
    space = searchable()
    state = dms_mm.Search(space, {'macs': 0.35}, 4, rule=rule).state_dict()
    older = {name: x for name, x in state.items() if not name.startswith(('seen_', 'confidence_'))}
    again = dms_mm.Search(searchable(), {'macs': 0.35}, 4, rule=rule)
    again.load_state_dict(older)
    assert 'begun anew' in caplog.text and again.state_dict().keys() == state.keys()
    caplog.clear()
    again.load_state_dict(state)
    assert not caplog.text
