"""What the benchmark of languages asks."""

from __future__ import annotations

from benchmarks.languages import Result, jobs_of

ROWS = [
    {"question_id": "1", "lang": lang, "context": f"passage {lang}", "question": f"question {lang}"}
    for lang in ("en", "de", "zh")
]


def test_jobs():
    jobs = jobs_of(ROWS)
    assert [job.prompt for job in jobs["auto"]] == [f"passage {lang}\n\nquestion {lang}" for lang in ("en", "de", "zh")]
    assert [job.prompt for job in jobs["auto_mixed"]] == [
        "passage de\n\nquestion en",
        "passage en\n\nquestion de",
        "passage en\n\nquestion zh",
    ]
    assert [job.wanted for job in jobs["forced"]] == ["de", "zh", "en"]
    assert [job.persona.language for job in jobs["forced"]] == ["de", "zh", "en"]
    assert [job.prompt for job in jobs["plain"]] == [job.prompt for job in jobs["auto"]]
    assert all(job.persona is None for job in jobs["plain"] + jobs["plain_mixed"])


def test_results():
    assert Result("de", "de", "Ja, das ist so.").right
    assert not Result("de", "en", "Yes, it is.").right
