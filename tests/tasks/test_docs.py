"""The commands of docs/ run as written, in the order of the loop, on the smoke configs."""

import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TASKS = (ROOT / 'iqa_jax/tasks').glob('*.py')
STAGES = sorted(path.stem for path in TASKS if '\ndef run(' in path.read_text())
ORDER = (
    'make_data', 'kadis_make', 'split', 'gallery', 'score_pairs', 'train_proxies',
    'train_annotators', 'study', 'import_database', 'train_ranking', 'extract_features',
    'train_mlsp', 'train_deepfl', 'train_unique', 'train_ohem', 'active', 'gmad', 'gmad_rank',
    'export', 'score', 'evaluate', 'quickstart', 'report', 'split_long_tail', 'ablate_ohem',
    'deepfl_splits', 'train_denoiser',
)  # fmt: skip


def commands() -> dict[str, list[str]]:
    """Arguments of every `python -m iqa_jax.main` of docs/, by the config they name."""
    found = {}
    for page in sorted((ROOT / 'docs').glob('*.md')):
        for block in re.findall(r'```bash\n(.*?)```', page.read_text(), re.DOTALL):
            words = shlex.split(block)
            assert words[:3] == ['python', '-m', 'iqa_jax.main'], (page, words)
            found[pathlib.Path(words[words.index('--config') + 1]).stem] = words[3:]
    return found


def test_every_stage_has_a_page_and_every_config_a_command():
    pages = {p.stem for p in (ROOT / 'docs').glob('*.md')}
    assert set(STAGES) <= pages
    configs = {p.stem for p in (ROOT / 'configs').glob('*.py')}
    assert configs == {*commands()} == {*ORDER}


def test_commands_in_config_files_are_those_of_the_pages():
    for name, arguments in commands().items():
        text = (ROOT / f'configs/{name}.py').read_text()
        assert 'python -m iqa_jax.main ' + ' '.join(arguments) in text, name


def test_the_commands_run_one_after_the_other(tmp_path):
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    found, said = commands(), {}
    for name in ORDER:
        arguments = [f'{a}:smoke' if a.startswith('configs/') else a for a in found[name]]
        done = subprocess.run(
            [sys.executable, '-m', 'iqa_jax.main', *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (name, done.stderr)
        said[name] = done.stderr
    # The pipeline finds every stage as its own command left it.
    for folder in ('data', 'pretrain', 'rate', 'finetune', 'active/round_01/train', 'model'):
        assert f'up to date (runs/quickstart/{folder})' in said['quickstart'], folder
    assert 'report: up to date' in said['report']


def test_commands_in_the_readme_are_those_of_the_pages():
    table = re.findall(r'`(--config configs/.*?)`', (ROOT / 'README.md').read_text())
    assert {*table} == {' '.join(arguments) for arguments in commands().values()}


def test_the_python_of_the_metrics_page_runs(capsys):
    text = (ROOT / 'docs/fr_metrics.md').read_text()
    code = re.search(r'```python\n(.*?)```', text, re.DOTALL)[1]
    exec(compile(code, 'fr_metrics.md', 'exec'), {})
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_python_of_the_readme_runs(smoke, tmp_path, monkeypatch, capsys):
    code = re.search(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)[1]
    assert len(code.splitlines()) <= 10
    (tmp_path / 'runs').mkdir()
    (tmp_path / 'runs/quickstart').symlink_to(smoke)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, 'README.md', 'exec'), {})
    assert len(capsys.readouterr().out.splitlines()) == 3
