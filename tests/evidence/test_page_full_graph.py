"""What the page says of made-up documents, and that page and headline follow the documents that are committed."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.evidence.full_graph_documents import document, row
from toto_patcher.equivalence.models import BASE
from toto_patcher.evidence import page, page_full_graph
from toto_patcher.evidence.goals import H200, floor
from toto_patcher.evidence.workloads import WORKLOADS

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "benchmarks"


def line(text: str, *parts: str) -> str:
    """The one line of a table that has all these parts."""
    (found,) = [each for each in text.splitlines() if each.startswith("|") and all(part in each for part in parts)]
    return found


def rendered(found: dict[str, Any]) -> str:
    return page_full_graph.render({"full-graph-x.json": found}, ["full-graph-x.png"])


def test_rows_are_compared_with_upstream_eager_and_with_its_best_mode() -> None:
    text = rendered(document())
    assert "250.00 [250.00, 250.00] | 125.00 [125.00, 125.00] | 9.0 | 4.5" in line(
        text, "full-graph, reduce-overhead", "0.40"
    )
    headline = page_full_graph.headline({"full-graph-x.json": document()})
    assert "| 100.00 | 50.00 (reduce-overhead) | 5.00 | 0.40 (reduce-overhead) | 250.00" in line(headline, "trading")


def test_goals_are_reached_or_not_in_words() -> None:
    text = rendered(document())
    for goal in (">= 200x", ">= 100x", "<= 50.0%", "<= 5 s"):
        assert line(text, "trading, reduce-overhead", goal).endswith("| reached |")
    assert "40.0%, 40.0%; beside the weights 14.3%, 20.0%" in line(text, "<= 50.0%")
    slow = document()
    slow["rows"][-1].update(ms=[0.6] * 6, warm_start_s=5.1)
    slow["rows"][-1]["memory"]["peak_reserved_mib"] = 700.0
    text = rendered(slow)
    for goal in (">= 200x", ">= 100x", "<= 50.0%", "<= 5 s"):
        assert line(text, "trading, reduce-overhead", goal).endswith("| **not reached** |")


def test_on_a_cpu_compiled_and_uncompiled_are_judged_apart() -> None:
    text = rendered(document("cpu"))
    assert line(text, "trading, eager", ">= 150x").endswith("| **not reached** |")
    assert line(text, "trading, reduce-overhead", ">= 150x").endswith("| reached |")
    assert "Floor:" not in text


@pytest.mark.parametrize("changed", [{"shape": "tiny"}, {"precision": "bf16"}])
def test_goals_are_not_judged_where_they_are_not_about_the_run(changed: dict[str, str]) -> None:
    found = document()
    found["settings"] |= changed
    assert "### Goals" not in rendered(found)


def test_device_time_is_shown_by_kind_with_launches_and_waits() -> None:
    text = rendered(document())
    assert line(text, "| matmul |") == "| matmul | 30.00 | 0.30 |"
    assert line(text, "waits for the device") == "| waits for the device | 4 | 4 |"
    assert line(text, "kernels, copies and fills") == "| kernels, copies and fills | 31 | 31 |"


def test_the_ablation_has_its_own_table_and_few_repetitions_are_compared_turn_by_turn() -> None:
    text = rendered(document())
    assert "20.00 [20.00, 20.00]" in line(text, "only static-decoder")
    assert "What each patch is worth:" in text and "only-static-decoder, eager" not in text


def test_what_was_compiled_anew_failed_or_left_out_is_said() -> None:
    found = document()
    found["rows"][-1]["variations"] = {
        "rows": [{"what": "64 samples", "graphs": 3}, {"what": "horizon 8", "graphs": 0}]
    }
    found["rows"].append(row("trading", "full-graph", "default", 1.0, ms=[], failure="first\nOutOfMemory: all of it"))
    found["left_out"] = ["observability/upstream/eager"]
    text = rendered(found)
    assert "- full-graph, reduce-overhead compiled anew for 64 samples (3 graphs)." in text
    assert "- failed: trading full-graph, default: OutOfMemory: all of it" in text
    assert "- left out: observability/upstream/eager" in text


def test_a_changed_number_makes_the_page_stale_and_no_document_means_no_page(tmp_path: Path) -> None:
    name = tmp_path / "full-graph-x.json"
    name.write_text(json.dumps(document()))
    assert page.main([str(tmp_path), "--check"]) == 1
    assert page.main([str(tmp_path)]) == 0
    assert page.main([str(tmp_path), "--check"]) == 0
    assert name.with_suffix(".png").stat().st_size > 0
    changed = document()
    changed["rows"][0]["ms"][0] = 101.0
    name.write_text(json.dumps(changed))
    assert page.main([str(tmp_path), "--check"]) == 1
    name.unlink()
    assert page.main([str(tmp_path), "--check"]) == 1
    assert page.main([str(tmp_path), "--no-plots"]) == 0 and not (tmp_path / "full-graph.md").exists()
    assert page.main([str(tmp_path), "--check"]) == 0


def test_committed_documents_name_no_folder_of_a_machine_and_their_fast_rows_compile_nothing_anew() -> None:
    """Holds with no document too: then there is nothing to hold."""
    for name, found in page.load(COMMITTED, "full-graph").items():
        assert not any(part in (COMMITTED / name).read_text() for part in ("/work/", "/tmp/", "/root/", "/home/"))
        for each in found["rows"]:
            if each["tree"] == "full-graph" and each["ms"]:
                assert each["totals"]["now"]["cudagraph_skips"] == 0
                assert each["totals"]["now"]["graphs"] == each["warm_up"]["after"]["graphs"]


def test_the_floor_is_weights_or_arithmetic_whichever_is_more() -> None:
    trading, long = (floor(BASE, WORKLOADS[name], "tf32", H200) for name in ("trading", "long-horizon"))
    assert trading.total == trading.weights > trading.arithmetic
    assert long.weights == pytest.approx(12 * trading.weights)  # twelve passes over the same weights
    many = floor(BASE, WORKLOADS["observability"], "tf32", H200)
    assert many.total == many.arithmetic > many.weights
    assert floor(BASE, WORKLOADS["trading"], "bf16", H200).weights == pytest.approx(trading.weights / 2)
    # 12 layers of 4 D^2 + 3 D F, patch embedding and folded head, 4 bytes each, at 4.3 TB/s
    assert trading.weights == pytest.approx((12 * 9_437_184 + 49_152 + 4_718_592) * 4 / 4.3e9)
