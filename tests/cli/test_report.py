import json


def test_a_run_is_logged_reported_and_written_over(dfad_fast, own, tmp_path):
    done = dfad_fast("distill", *own, "--log", "csv")
    assert done.code == 0, done.err
    assert "the whole run on one page, for a browser" in done.out
    first = (tmp_path / "run/report.html").read_text()
    assert "own.py:teacher" in first
    assert len((tmp_path / "run/metrics.csv").read_text().splitlines()) == 3
    (tmp_path / "run/report.html").unlink()
    done = dfad_fast("report", "run")
    assert (done.code, done.out) == (0, "The page is run/report.html.\n")
    assert (tmp_path / "run/report.html").read_text() == first
    assert dfad_fast("report", "run/config.yaml", "--out", "pages/one.html", "--quiet").out == ""
    assert (tmp_path / "pages/one.html").read_text() == first
    # Loggers are a setting like others; what they wrote goes with the run.
    assert dfad_fast("distill", "--config", "run", "--out", "repeated", "--quiet").code == 0
    assert (tmp_path / "repeated/metrics.csv").exists()
    assert dfad_fast("distill", *own, "--overwrite", "--quiet").code == 0
    assert not (tmp_path / "run/metrics.csv").exists()
    assert json.loads((tmp_path / "run/summary.json").read_text())["iterations"] == 2


def test_a_wrong_request_is_one_line(dfad_fast, own, tmp_path):
    for arguments, code, message in (
        (("report", "nowhere"), 2, "nowhere holds no run (config.yaml, metrics.jsonl, summary.json): give"),
        (("distill", *own, "--log", "cvs"), 2, "unknown logger 'cvs': did you mean 'csv'"),
    ):
        done = dfad_fast(*arguments)
        assert (done.code, done.err.count("\n")) == (code, 1)
        assert message in done.err
    assert not (tmp_path / "run").exists()


def test_a_page_that_cannot_be_written_is_a_failure(dfad_fast, own, tmp_path):
    assert dfad_fast("distill", *own, "--quiet").code == 0
    (tmp_path / "file").write_text("in the way")
    done = dfad_fast("report", "run", "--out", "file/page.html")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "cannot write to folder file" in done.err
