import csv
import json
import sys
import warnings
from types import ModuleType, SimpleNamespace

import pytest
import torch

from dfad_fast import DFADTrainer
from dfad_fast.errors import DFADFastWarning, RunError, UsageError
from dfad_fast.reporting.loggers import LOGGERS, Loggers, available
from dfad_fast.reporting.loggers.logger import Logger, Start
from dfad_fast.reporting.loggers.mlflow_run import MLflow
from dfad_fast.runs.events import Recorded, Started
from dfad_fast.terms import L1, Weighted
from tests.training.test_trainer import SHAPE, SMALL, TurnsNaN


@pytest.fixture
def test_images():
    torch.manual_seed(1)
    return [(torch.randn(16, *SHAPE), torch.randint(4, (16,)))]


class Killed(BaseException):
    """None of those after which a run saves."""


class KillAt:
    """Ends a run as a kill does, after the record of an iteration and before its checkpoint."""

    def __init__(self, iteration):
        self.iteration = iteration

    def advance(self, iteration):
        if iteration == self.iteration:
            raise Killed

    def log(self, record):
        pass


def killed_and_resumed(pair, out, log):
    options = {"out": out, "log": log, "checkpoint_seconds": 0.0, **SMALL}
    with pytest.raises(Killed):
        DFADTrainer(*pair, SHAPE, "dfad", **options).fit(6, progress=KillAt(4))
    resumed = DFADTrainer(*pair, SHAPE, "dfad", resume=True, **options)
    assert resumed.iteration == 3
    resumed.fit(3)


def records_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def table_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_has_columns_that_come_later_in_all_rows(pair, test_images, tmp_path):
    widths = []

    class Look:
        def advance(self, iteration):
            rows = (tmp_path / "metrics.csv").read_text().splitlines()
            assert len({row.count(",") for row in rows}) == 1
            widths.append(rows[0].count(","))

        def log(self, record):
            pass

    trainer = DFADTrainer(*pair, SHAPE, out=tmp_path, log="csv", **SMALL)
    trainer.fit(6, evaluate=test_images, evaluate_every=3, progress=Look())
    assert widths[1] < widths[2]
    rows, records = table_of(tmp_path), records_of(tmp_path)
    assert len(rows) == 6
    for row, record in zip(rows, records, strict=True):
        assert {name: float(value) for name, value in row.items() if value} == record
    assert rows[0]["student_accuracy"] == ""
    assert float(rows[2]["student_accuracy"]) == records[2]["student_accuracy"]


def test_a_table_is_cut_where_a_run_is_resumed(pair, tmp_path):
    killed_and_resumed(pair, tmp_path, ["csv"])
    rows = table_of(tmp_path)
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [float(row["student/l1"]) for row in rows] == [r["student/l1"] for r in records_of(tmp_path)]


def test_tensorboard_has_each_value_once_and_the_images(pair, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    killed_and_resumed(pair, tmp_path, ["tensorboard"])
    events = accumulator.EventAccumulator(str(tmp_path / "log/tensorboard"))
    events.Reload()
    scalars = events.Scalars("student/l1")
    assert [event.step for event in scalars] == [1, 2, 3, 4, 5, 6]
    expected = [record["student/l1"] for record in records_of(tmp_path)]
    assert [event.value for event in scalars] == pytest.approx(expected)
    assert events.Images("generated")[-1].step == 6
    assert {"config/text_summary", "summary/text_summary"} <= set(events.Tags()["tensors"])


class FakeRun:
    def __init__(self, **told):
        self.told, self.logged, self.summary, self.exit_code = told, [], {}, None

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in with what is used of wandb; ``runs`` are those that were begun."""
    fake = ModuleType("wandb")
    fake.runs = []
    fake.init = lambda **told: fake.runs.append(FakeRun(**told)) or fake.runs[-1]
    fake.Settings = lambda **settings: SimpleNamespace(**settings)
    fake.Image = lambda pixels: SimpleNamespace(shape=pixels.shape)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return fake


def test_wandb_is_offline_and_a_resumed_run_begins_with_what_was_recorded(pair, wandb, tmp_path):
    killed_and_resumed(pair, tmp_path / "my run", ["wandb"])
    first, second = wandb.runs
    assert (first.told["mode"], first.told["name"], first.told["group"]) == ("offline", "my run", "my run")
    assert first.told["dir"] == str(tmp_path / "my run/log")
    assert first.told["config"]["method"] == "dfad"
    assert (first.exit_code, second.exit_code) == (1, 0)
    assert [step for step, values in first.logged if "student/l1" in values] == [1, 2, 3, 4]
    assert [values for _, values in second.logged if "student/l1" in values] == records_of(
        tmp_path / "my run"
    )
    assert second.logged[-1][0] == 6
    assert second.logged[-1][1]["generated"].shape == (35, 71, 1)
    assert second.summary["iterations"] == 6


def test_a_run_of_wandb_that_cannot_be_told_of_the_past_is_not_left_open(wandb, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("gone")

    monkeypatch.setattr(FakeRun, "log", fail)
    (tmp_path / "config.yaml").write_text("seed: 0")
    with pytest.warns(DFADFastWarning, match="logger wandb failed"):
        Loggers(["wandb"]).started(Started(tmp_path, 1, 2, [{"iteration": 1}]))
    assert wandb.runs[0].exit_code == 1


class FakeClient:
    """A stand-in with what is used of mlflow.MlflowClient."""

    def __init__(self, tracking_uri, made):
        self.uri, self.metrics, self.files, self.images, self.status = tracking_uri, [], {}, [], None
        self.batches = 0
        made.append(self)

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name, artifact_location):
        self.artifacts = artifact_location
        return "1"

    def create_run(self, experiment_id, run_name):
        self.name = run_name
        return SimpleNamespace(info=SimpleNamespace(run_id="r"))

    def log_batch(self, run_id, metrics):
        assert len(metrics) <= 1000, "what MLflow takes"
        self.batches += 1
        self.metrics += metrics

    def log_image(self, run_id, image, *, key, step):
        self.images.append((key, step, image.shape))

    def log_dict(self, run_id, dictionary, artifact_file):
        self.files[artifact_file] = dictionary

    def set_terminated(self, run_id, status):
        self.status = status


@pytest.fixture
def mlflow(monkeypatch):
    fake = ModuleType("mlflow")
    fake.clients = []
    fake.MlflowClient = lambda tracking_uri: FakeClient(tracking_uri, fake.clients)
    fake.entities = SimpleNamespace(Metric=lambda *fields: fields)
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return fake


def test_mlflow_writes_to_a_database_in_the_folder(pair, mlflow, tmp_path):
    killed_and_resumed(pair, tmp_path / "run", ["mlflow"])
    first, second = mlflow.clients
    assert second.uri == f"sqlite:///{tmp_path}/run/log/mlflow/mlflow.db"
    assert second.artifacts == f"file://{tmp_path}/run/log/mlflow/artifacts"
    assert (tmp_path / "run/log/mlflow").is_dir()
    assert (first.status, second.status) == ("FAILED", "FINISHED")
    l1 = [(step, value) for name, value, _, step in second.metrics if name == "student/l1"]
    assert l1 == [(r["iteration"], r["student/l1"]) for r in records_of(tmp_path / "run")]
    assert second.images[-1] == ("generated", 6, (35, 71, 1))
    assert second.files["summary.json"]["iterations"] == 6
    assert second.files["config.yaml"]["method"] == "dfad"


def test_mlflow_is_told_of_a_long_history_in_few_transactions(mlflow, tmp_path):
    history = [{"iteration": i, "a": i, "b": -i, "c": 0.5} for i in range(1, 701)]
    start = Start(tmp_path, 700, {}, history)
    MLflow(start).begin(start)
    (client,) = mlflow.clients
    assert client.batches == 3
    told = [(name, value, step) for name, value, _, step in client.metrics]
    assert told == [(name, float(r[name]), r["iteration"]) for r in history for name in "abc"]


def test_mlflows_database_is_not_put_where_its_address_would_end_early(mlflow, tmp_path):
    with pytest.raises(UsageError, match=r"a question mark ends the path, and .*: rename the folder"):
        MLflow(Start(tmp_path / "what?", 0, {}, ()))
    assert not list(tmp_path.iterdir())


def test_mlflow_goes_where_the_environment_says(pair, mlflow, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "elsewhere")
    DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, log=["mlflow"], **SMALL).fit(1)
    assert (mlflow.clients[0].uri, mlflow.clients[0].artifacts) == ("elsewhere", None)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("fails_in", ["__init__", "begin", "record", "images", "summary", "close"])
def test_a_logger_that_fails_warns_once_and_the_run_goes_on(pair, tmp_path, monkeypatch, fails_in):
    closed = []

    class Fails(Logger):
        calls = 0

        def __init__(self, start):
            pass

        def close(self, failed):
            closed.append(failed)
            raise ConnectionError("there is no server")

    def fail(self, *_):
        Fails.calls += 1
        raise ConnectionError("the server\nis gone")

    setattr(Fails, fails_in, fail)
    monkeypatch.setitem(LOGGERS, "fails", Fails)
    trainer = DFADTrainer(*pair, SHAPE, "dfad", out=tmp_path, log=["fails", "csv"], **SMALL)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert trainer.fit(4)["iterations"] == 4
    ours = [str(w.message) for w in caught if issubclass(w.category, DFADFastWarning)]
    assert ours == ["logger fails failed (ConnectionError: the server is gone): the run continues without it"]
    assert Fails.calls == 1
    assert closed == ([] if fails_in in ("__init__", "close") else [True])
    assert len(table_of(tmp_path)) == 4


def test_loggers_are_told_of_a_failure_and_are_closed(pair, tmp_path, monkeypatch):
    closed = []

    class Told(Logger):
        def __init__(self, start):
            pass

        def close(self, failed):
            closed.append(failed)

    monkeypatch.setitem(LOGGERS, "told", Told)
    bad = (Weighted(1.0, L1()), Weighted(1.0, TurnsNaN(8)))
    trainer = DFADTrainer(*pair, SHAPE, "dfad", student_terms=bad, out=tmp_path, log=["told"], **SMALL)
    with pytest.raises(RunError):
        trainer.fit(4)
    assert closed == [True]
    trainer.loggers.recorded(Recorded({"iteration": 9}))  # goes nowhere


def test_a_trainer_without_loggers_has_none(pair):
    trainer = DFADTrainer(*pair, SHAPE, **SMALL)
    assert not trainer.loggers


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_refused_before_anything_is_written(pair, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, LOGGERS[name].module or name, None)
    with pytest.raises(UsageError, match=f"{name} is not installed .* pip install {name}$"):
        DFADTrainer(*pair, SHAPE, out=tmp_path / "run", log=["csv", name], **SMALL)
    assert not (tmp_path / "run").exists()


def test_a_broken_package_is_one_line_whatever_it_raises(tmp_path, monkeypatch):
    (tmp_path / "wandb.py").write_text("raise AttributeError('no such\\nname')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(UsageError, match=r"wandb is not installed or cannot be imported \(no such name\)"):
        Loggers(["wandb"])


def test_of_a_run_that_goes_on_an_unknown_logger_is_still_refused():
    with pytest.raises(UsageError, match="unknown logger 'tensorbord'"):
        available(["csv", "tensorbord"])


def test_wrong_names_and_a_missing_folder_are_refused(pair):
    with pytest.raises(UsageError, match="unknown logger 'tensorbord': did you mean 'tensorboard'"):
        Loggers(["tensorbord"])
    with pytest.raises(UsageError, match=r"log=\['csv'\] writes to a run's folder: give one with out="):
        DFADTrainer(*pair, SHAPE, log=["csv"], **SMALL)
