import copy
import json
from pathlib import Path
from typing import Any

import pytest

from toto_patcher.evidence import page, page_graph_breaks
from toto_patcher.evidence.benchmark_rows import later_recompilations, measured, ratios, slower_rows

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"


@pytest.fixture
def documents() -> dict[str, dict[str, Any]]:
    return page.load(COMMITTED)


def test_committed_page_and_headline_are_what_the_committed_documents_give() -> None:
    assert page.main([str(COMMITTED), "--check"]) == 0


def test_a_changed_number_makes_the_page_stale(tmp_path: Path, documents: dict[str, dict[str, Any]]) -> None:
    for path in COMMITTED.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    name, document = next(iter(documents.items()))
    document["rows"][0]["ms"] = [value + 1 for value in document["rows"][0]["ms"]]
    (tmp_path / name).write_text(json.dumps(document))
    assert page.main([str(tmp_path), "--check"]) == 1
    assert page.main([str(tmp_path), "--no-plots"]) == 0
    assert page.main([str(tmp_path), "--check"]) == 0


def test_pictures_are_drawn_for_every_document(tmp_path: Path, documents: dict[str, dict[str, Any]]) -> None:
    for name in documents:
        (tmp_path / name).write_text((COMMITTED / name).read_text())
    assert page.main([str(tmp_path)]) == 0
    assert all((tmp_path / name).with_suffix(".png").stat().st_size > 0 for name in documents)


def test_committed_documents_name_no_folder_of_a_machine(documents: dict[str, dict[str, Any]]) -> None:
    assert documents
    for name in documents:
        assert not any(part in (COMMITTED / name).read_text() for part in ("/work/", "/tmp/", "/root/", "/home/"))


def test_in_the_committed_run_no_patched_row_is_slower_and_every_one_beats_eager(
    documents: dict[str, dict[str, Any]],
) -> None:
    for document in documents.values():
        rows = measured(document)
        assert slower_rows(document) == []
        for row in rows:
            eager, twin = ratios(rows, row)
            if row["tree"] == "patched" and row["mode"] != "eager":
                assert eager is not None and eager.faster and twin is not None and twin.value >= 1.0


def test_in_the_committed_run_the_patch_ends_recompilation_limit_hits_and_skips(
    documents: dict[str, dict[str, Any]],
) -> None:
    rows = [row for document in documents.values() for row in measured(document)]
    for row in rows:
        if row["tree"] in ("patched", "list-index-patched"):
            assert (later_recompilations(row), row["totals"]["now"]["limit_hits"]) == (0, 0)
            assert row["totals"]["now"]["cudagraph_skips"] == 0
    before = [row for row in rows if row["tree"] == "list-index"]
    assert before and all(row["totals"]["now"]["limit_hits"] > 0 for row in before)


def test_a_slower_patched_row_is_named_on_the_page(documents: dict[str, dict[str, Any]]) -> None:
    name, document = next((name, document) for name, document in documents.items() if "patched" in document["trees"])
    changed = copy.deepcopy(document)
    row = next(row for row in changed["rows"] if row["tree"] == "patched" and row["mode"] != "eager")
    row["ms"] = [value * 10 for value in row["ms"]]
    text = page_graph_breaks.render({name: changed})
    assert f"beyond the spread: {row['workload']} patched, {row['mode']}." in text and "(slower)" in text


def test_what_was_not_measured_is_said(documents: dict[str, dict[str, Any]]) -> None:
    name, document = next(iter(documents.items()))
    changed = copy.deepcopy(document)
    changed["rows"] = []
    changed["left_out"] = ["trading/patched/default"]
    text = page_graph_breaks.render({name: changed})
    assert "Not measured: trading in default;" in text and "- left out: trading/patched/default" in text
