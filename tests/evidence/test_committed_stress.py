"""The stress reports in docs/stress are what their raw documents give, and none hides a broken limit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toto_patcher.evidence import stress_report, stress_verdict
from toto_patcher.evidence.stress import REPORT, RESULTS
from toto_patcher.evidence.stress_limits import Limits

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "stress"
REPORTS = sorted(path.parent for path in FOLDER.glob(f"*/{RESULTS}"))


@pytest.mark.parametrize("folder", REPORTS, ids=lambda folder: folder.name)
def test_a_committed_report_is_what_its_document_gives(folder: Path) -> None:
    document = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    plots = [f"compile_stress_{name}.png" for name in ("latency", "accuracy")]
    assert (folder / REPORT).read_text(encoding="utf-8") == stress_report.render(document, plots)
    assert all((folder / plot).is_file() for plot in plots)
    broken = stress_verdict.judge(document["rows"], Limits(**document["limits"]))
    assert document["passed"] is not bool(broken)
    assert document["verdict"] == stress_verdict.sentence(broken, document["rows"])


def test_every_committed_report_is_listed_and_one_is_of_a_gpu() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert REPORTS and all(f"({folder.name}/{REPORT})" in page for folder in REPORTS)
    devices = {json.loads((folder / RESULTS).read_text(encoding="utf-8"))["settings"]["device"] for folder in REPORTS}
    assert "cuda" in devices
