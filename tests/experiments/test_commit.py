"""Which code a result is of: the commit, and whether more than results differs from it."""

import subprocess

from experiments.commit import commit_of


def test_stored_results_are_no_change_of_the_code(tmp_path):
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    stored, code = tmp_path / "experiments" / "results" / "a.json", tmp_path / "code.py"
    stored.parent.mkdir(parents=True)
    for file in (stored, code):
        file.write_text("1")
    assert commit_of(tmp_path) == "unknown"
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    head = commit_of(tmp_path)
    assert len(head) == 12
    stored.write_text("2")
    assert commit_of(tmp_path) == head
    code.write_text("2")
    assert commit_of(tmp_path) == f"{head}-dirty"
