from dataclasses import fields

from dfad_fast.engine.settings import DistillerSettings, recorded, recorded_by_value
from dfad_fast.jobs.settings import DistillSettings, as_plain, distill_settings
from dfad_fast.settings import declared


def test_every_setting_has_one_option_and_stands_where_it_says():
    options = list(distill_settings())
    assert sorted(options) == sorted(field.name for field in fields(DistillSettings))
    assert options[0] == "dataset"
    assert options.index("student_terms") == options.index("method") + 1
    assert options.index("batch_per_process") == options.index("batch_size") + 1
    assert as_plain(DistillSettings(seed=3))["seed"] == 3


def test_a_run_records_its_settings_or_what_they_are_resolved_to():
    resolved = {name for name, own in declared(DistillerSettings).items() if own.resolved}
    assert resolved | set(recorded_by_value()) == set(declared(DistillerSettings))
    assert {"method", "recipe", "speed"} <= resolved
    assert recorded(DistillerSettings(replay=4, seed=2)) == {**recorded_by_value(), "replay": 4, "seed": 2}


def test_only_what_changes_no_result_is_the_same_to_a_comparison():
    same = {name for name, own in distill_settings().items() if not own.changes_result}
    assert same.isdisjoint(declared(DistillerSettings))
    assert {"out", "device", "log"} <= same
