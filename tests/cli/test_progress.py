"""Long work is never silent where nobody sees a bar, and never writes on stdout."""

from __future__ import annotations

import time

import pytest

from toto_patcher.progress import progress


@pytest.mark.parametrize("lines", [True, False])
def test_a_long_step_is_told_again_and_again_until_it_ends(lines: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with progress(enabled=True, lines=lines, silence=0.1) as step:
        step("warming up", 1, 3)
        time.sleep(0.55)
        step("warmed up", 2, 3)
    after = capsys.readouterr()
    time.sleep(0.2)
    told = after.err.splitlines()
    going_on = [line for line in told if "1/3 warming up (" in line and line.endswith("s, and going on)")]
    assert 3 <= len(going_on) <= 6
    assert len(told) - len(going_on) == (2 if lines else 0)
    assert after.out == "" and capsys.readouterr() == ("", "")


def test_short_work_and_json_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for enabled, silence in ((True, 10.0), (False, 0.01)):
        with progress(enabled=enabled, silence=silence) as step:
            step("comparing", 1, 0)
            time.sleep(0.05)
    assert capsys.readouterr() == ("", "")
