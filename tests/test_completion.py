"""Completion in shells: bash is asked itself, of the others the script is read."""

import shutil
import subprocess

import pytest

from mipp.cli import main
from mipp.commands.completion import SHELLS
from mipp.commands.table import COMMANDS


@pytest.fixture(scope="module")
def scripts():
    """Shell -> what the command prints."""
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", printed.append)
        assert [main(["completion", shell]) for shell in SHELLS] == [0, 0, 0]
    return dict(zip(SHELLS, printed, strict=True))


def completed(script, *words):
    """What bash offers for the last of these words."""
    line = " ".join(f"'{word}'" for word in ("mipp", *words))
    asked = f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; _shtab_mipp mipp '{words[-1]}'"
    code = f"{script}\n{asked}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    bash = [shutil.which("bash"), "--norc", "-c", code]
    return subprocess.run(bash, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["bud"], ["budget"]),
        (["budget", "--bud"], ["--budgets"]),
        (["prune", "--rep"], ["--repair"]),
        (["prune", "--repair", "rec"], ["recalibrate"]),
        (["completion", ""], list(SHELLS)),
    ],
)
def test_bash_completes_commands_and_options(words, expected, scripts):
    assert sorted(completed(scripts["bash"], *words)) == sorted(expected)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_files(scripts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dense.safetensors").touch()
    assert completed(scripts["bash"], "prune", "den") == ["dense.safetensors"]


OF_A_COMMAND = {"bash": "_shtab_mipp_{}_option_strings=(", "zsh": "    {}:'", "fish": "-a {} "}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_is_in_the_script(shell, scripts):
    lines = [OF_A_COMMAND[shell].format(name) for name in COMMANDS]
    assert [line for line in lines if line not in scripts[shell]] == []


def test_other_shells_are_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["completion", "cmd"])
    assert ended.value.code == 2
    assert "bash, zsh, fish" in capsys.readouterr().err.replace("'", "")
