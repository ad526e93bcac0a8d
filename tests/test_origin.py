"""The revision of the source: git's own answer, and never that of somebody else's repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mipp.origin import SOURCE, commit

SAY = "from mipp.origin import commit; print(commit())"


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def copied(tmp_path):
    """A copy of this module in a folder of its own, which is no repository yet."""
    package = tmp_path / "outer/source/mipp"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copyfile(SOURCE / "mipp/origin.py", package / "origin.py")
    return package.parent


def said(source, **environment):
    return subprocess.run(
        [sys.executable, "-B", "-c", SAY],
        cwd=source,
        env={
            "PYTHONPATH": str(source),
            "PATH": os.environ["PATH"],
            "HOME": str(source),
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def commit_all(folder):
    git(folder, "init")
    git(folder, "add", "--all")
    git(folder, "commit", "--message", "all")
    return git(folder, "rev-parse", "HEAD")


def test_source_in_its_repository_has_that_revision_and_says_if_it_was_changed(copied):
    revision = commit_all(copied)
    assert said(copied) == revision
    git(copied, "tag", "v1")
    assert said(copied) == revision
    (copied / "mipp/__init__.py").write_text("changed = True")
    assert said(copied) == f"{revision}-dirty"


def test_source_below_somebody_s_repository_has_no_revision(copied):
    commit_all(copied.parent)
    assert said(copied) == ""


def test_source_outside_of_any_repository_has_no_revision(copied):
    assert said(copied) == ""


def test_copy_of_the_source_is_told_its_revision(copied):
    commit_all(copied.parent)
    assert said(copied, MIPP_COMMIT="abc-dirty") == "abc-dirty"


def test_revision_here_is_what_git_says(monkeypatch):
    monkeypatch.delenv("MIPP_COMMIT", raising=False)
    top = Path(__file__).parents[1]
    if not (top / ".git").exists():
        pytest.skip("this is no checkout")
    assert commit.__wrapped__().removesuffix("-dirty") == git(top, "rev-parse", "HEAD")
