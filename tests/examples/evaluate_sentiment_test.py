"""The evaluation example, on real reviews, scaled down."""

import pathlib
import re
import sys

import pytest
from programs import Programs

pytestmark = pytest.mark.slow  # evaluation's own tests have each part

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def reviews():
    sys.path.insert(0, str(EXAMPLES))
    try:
        import chinese_sentiment_data

        return chinese_sentiment_data.load()
    finally:
        sys.path.remove(str(EXAMPLES))


def test_the_reviews(reviews):
    texts, labels = reviews
    assert len(texts) == len(set(texts)) == len(labels) == 17_363
    assert set(labels) == {0, 1}


@pytest.mark.timeout(200)
def test_it_ends_in_a_report(reviews, tmp_path):
    script = [EXAMPLES / "evaluate_sentiment.py", "--examples", "4000", "--epochs", "3"]
    report = tmp_path / "report.html"
    with Programs() as programs:
        program = programs.start([sys.executable, *script, "--report", report])
        assert program.wait(180) == 0, program.err[-3000:]
    area = re.search(r"roc_auc\D+(0\.\d+)", program.out.split("temperature")[1])
    assert float(area.group(1)) > 0.8, program.out
    page = report.read_text()
    assert "disliked" in page and "under 20" in page
    assert page.count("data:image/png;base64,") >= 3
