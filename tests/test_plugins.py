"""Plug-ins: what is found, that nothing is executed before its time, and what each mistake says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mmbench.errors import UsageError
from mmbench.plugins import Registry, load_file, shipped_folder

FUSION = 'NAME = "{name}"\nKIND = "fusion"\nSUMMARY = "mine"\n'
BOOBY_TRAP = "raise RuntimeError('executed')\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder with the marker."""
    write(tmp_path / "mmbench.toml", "")
    return tmp_path


def names(registry: Registry) -> set[str]:
    return {plugin.name for plugin in registry.list("task", "fusion", "strategy", "model")}


def install(monkeypatch: pytest.MonkeyPatch, site: Path, group: str, value: str) -> None:
    """A distribution with one entry point, as pip would leave it in ``site``."""
    write(site / "mine-1.0.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    write(site / "mine-1.0.dist-info" / "entry_points.txt", f"[{group}]\nmine = {value}\n")
    monkeypatch.syspath_prepend(str(site))


def test_every_shipped_file_is_listed_and_says_what_it_is(tmp_path: Path) -> None:
    plugins = Registry(folder=tmp_path).list("task", "fusion", "strategy", "model")
    files = {path.stem for path in shipped_folder("baselines").glob("[!_]*.py")}
    assert files <= {plugin.path.stem for plugin in plugins}
    assert {"crisismmd", "digits", "concat", "igfn", "dmtl"} <= {plugin.name for plugin in plugins}
    assert all(plugin.summary and plugin.origin == "shipped" for plugin in plugins)
    assert [plugin.name for plugin in plugins] == sorted(plugin.name for plugin in plugins)


def test_a_file_beside_the_marker_is_listed_and_loads(project: Path) -> None:
    path = write(project / "baselines" / "mine.py", FUSION.format(name="mine") + "ANSWER = 6 * 7\n")
    registry = Registry(folder=project)
    plugin = registry.get("mine", "fusion")
    assert (plugin.kind, plugin.summary, plugin.path, plugin.origin) == ("fusion", "mine", path, "folder")
    assert registry.load("mine", "fusion").ANSWER == 42


def test_without_the_marker_nothing_of_the_folder_is_seen(tmp_path: Path) -> None:
    write(tmp_path / "baselines" / "mine.py", FUSION.format(name="mine") + BOOBY_TRAP)
    write(tmp_path / "tasks" / "broken.py", "def (:\n")
    assert "mine" not in names(Registry(folder=tmp_path))


def test_the_working_directory_is_the_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project / "baselines" / "mine.py", FUSION.format(name="mine"))
    assert "mine" not in names(Registry())
    monkeypatch.chdir(project)
    assert "mine" in names(Registry())


def test_listing_executes_nothing_and_loading_says_what_was_raised(project: Path) -> None:
    path = write(project / "baselines" / "trap.py", FUSION.format(name="trap") + BOOBY_TRAP)
    registry = Registry(folder=project)
    assert "trap" in names(registry)
    with pytest.raises(UsageError, match=r"RuntimeError: executed") as raised:
        registry.load("trap", "fusion")
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_an_error_of_many_lines_is_one_line(project: Path) -> None:
    write(project / "baselines" / "trap.py", FUSION.format(name="trap") + "raise ValueError('first\\nsecond')\n")
    with pytest.raises(UsageError, match="first") as raised:
        Registry(folder=project).load("trap", "fusion")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content", [b"NAME = 'x'\ndef (:\n", b"NAME = 'x'\n\xff\xfe\n", b"NAME = 'x'\0\n", b"NAME = 'x'\n  y = 1\n"]
)
def test_a_file_that_is_not_python_is_left_out_with_one_line_that_names_it(project: Path, content: bytes) -> None:
    path = project / "baselines" / "broken.py"
    path.parent.mkdir()
    path.write_bytes(content)
    registry = Registry(folder=project)
    (line,) = registry.broken
    assert "not valid Python" in line and str(path) in line and "\n" not in line
    assert "concat" in names(registry)
    with pytest.raises(UsageError, match=r"unknown fusion 'broken'.*not valid Python"):
        registry.get("broken", "fusion")
    with pytest.raises(UsageError, match="not valid Python"):
        Registry([path], project.parent)


def test_a_dangling_link_and_a_folder_named_like_a_file_are_no_traceback(project: Path) -> None:
    (project / "baselines" / "folder.py").mkdir(parents=True)
    assert "concat" in names(Registry(folder=project))
    link = project / "baselines" / "gone.py"
    link.symlink_to(project / "nowhere.py")
    (line,) = Registry(folder=project).broken
    assert "gone.py" in line


def test_a_name_taken_twice_names_both_files(project: Path) -> None:
    path = write(project / "baselines" / "other.py", FUSION.format(name="concat"))
    with pytest.raises(UsageError, match="concat") as raised:
        Registry(folder=project)
    assert str(path) in str(raised.value)
    assert str(shipped_folder("baselines") / "concat.py") in str(raised.value)


def test_a_fusion_and_a_strategy_share_one_name_space_and_a_task_has_its_own(project: Path) -> None:
    write(project / "tasks" / "concat.py", 'NAME = "concat"\nSUMMARY = "a task of that name"\n')
    registry = Registry(folder=project)
    assert registry.get("concat", "task").summary == "a task of that name"
    assert registry.get("concat", "fusion").origin == "shipped"
    write(project / "baselines" / "mine.py", 'NAME = "concat"\nKIND = "strategy"\n')
    with pytest.raises(UsageError, match="defined twice"):
        Registry(folder=project)


def test_plugin_overrides_a_shipped_name_and_that_is_recorded(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.py", FUSION.format(name="concat"))
    registry = Registry([path], tmp_path)
    assert registry.get("concat", "fusion").path == path
    assert registry.get("concat", "fusion").origin == "file"
    assert len(registry.overrides) == 1
    assert "concat" in registry.overrides[0] and "mine.py" in registry.overrides[0]
    assert Registry([write(tmp_path / "new.py", FUSION.format(name="new"))], tmp_path).overrides == []


def test_plugin_that_is_already_found_is_no_override(project: Path) -> None:
    path = write(project / "baselines" / "mine.py", FUSION.format(name="mine"))
    assert Registry([path], project).overrides == []


@pytest.mark.parametrize("content", [None, "X = 1\n", "NAME = 1 + 1\n"])
def test_plugin_without_file_or_name_says_so(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "mine.py"
    if content is not None:
        write(path, content)
    with pytest.raises(UsageError, match=r"--plugin .*mine\.py: no"):
        Registry([path], tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('NAME = "mine"\nKIND = "fusoin"\n', "KIND = 'fusoin', expected one of fusion"),
        ('NAME = "mine"\n', "has no KIND"),
        ('NAME = "a/b+c"\nKIND = "fusion"\n', "expected letters, digits"),
        ('NAME = ""\nKIND = "fusion"\n', "expected letters, digits"),
        ('NAME = "all"\nKIND = "fusion"\n', "not a keyword"),
    ],
)
def test_what_no_selector_could_name_is_told(project: Path, content: str, said: str) -> None:
    write(project / "baselines" / "mine.py", content)
    (line,) = Registry(folder=project).broken
    assert said in line and "mine.py" in line


def test_a_task_without_a_task_is_told(project: Path) -> None:
    write(project / "tasks" / "mine.py", 'NAME = "mine"\nTASK = "digits"\n')
    with pytest.raises(UsageError, match=r"mine\.py has no TASK"):
        Registry(folder=project).task("mine")


TASK = """
from mmbench.contracts import Modality, Protocol, Task
NAME = "mine"
PROTOCOL = Protocol("p", "", "", "", ("concat",))
X = Modality("x", "vector", "standardize")
TASK = Task("t", "", "", "", "row", (X,), [PROTOCOL], print, "concat")
"""


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('Task("t"', "Task(3", "TASK.title is 3: Input should be a valid string"),
        ("(X,)", '("x",)', "TASK.modalities.0 is 'x'"),
        ("(X,)", "()", "TASK has no modalities"),
        ("[PROTOCOL]", "()", "TASK has no protocols"),
        ('("concat",)', '"concat"', "TASK.protocols.0.suite is 'concat'"),
        ('"vector"', '"vektor"', "TASK.modalities.0.kind is 'vektor'"),
        ("print", "None", "TASK.load is None"),
    ],
)
def test_a_task_of_other_types_is_one_line(project: Path, right: str, wrong: str, said: str) -> None:
    write(project / "tasks" / "mine.py", TASK)
    path = write(project / "tasks" / "other.py", TASK.replace('"mine"', '"other"').replace(right, wrong))
    registry = Registry(folder=project)
    assert registry.task("mine").title == "t"
    with pytest.raises(UsageError) as raised:
        registry.task("other")
    assert f"{path}: {said}" in str(raised.value)


def test_a_plug_in_that_exits_ends_nothing(project: Path) -> None:
    write(project / "baselines" / "mine.py", FUSION.format(name="mine") + "raise SystemExit(7)\n")
    with pytest.raises(UsageError, match="SystemExit: 7"):
        Registry(folder=project).load("mine", "fusion")


def test_an_unknown_name_names_the_nearest(tmp_path: Path) -> None:
    registry = Registry(folder=tmp_path)
    with pytest.raises(UsageError, match="unknown fusion 'conact': did you mean concat"):
        registry.get("conact", "fusion")
    with pytest.raises(UsageError, match="unknown task 'crisis': did you mean crisismmd"):
        registry.get("crisis", "task")
    with pytest.raises(UsageError, match="unknown fusion 'moo'"):
        registry.get("moo", "fusion")


def test_files_of_one_stem_load_side_by_side(project: Path) -> None:
    write(project / "baselines" / "concat.py", FUSION.format(name="mine") + "WHOSE = 'user'\n")
    registry = Registry(folder=project)
    theirs, ours = registry.load("mine", "fusion"), registry.load("concat", "fusion")
    assert theirs is not ours
    assert theirs.NAME == "mine" and ours.NAME == "concat"
    assert theirs.__name__ != ours.__name__
    assert sys.modules[theirs.__name__] is theirs and sys.modules[ours.__name__] is ours


def test_a_file_is_executed_once_by_its_real_path(project: Path) -> None:
    path = write(project / "baselines" / "mine.py", FUSION.format(name="mine") + "LOADED = object()\n")
    link = project / "elsewhere.py"
    link.symlink_to(path)
    assert Registry(folder=project).load("mine", "fusion") is Registry([link], project).load("mine", "fusion")


def test_a_plugin_of_several_files_imports_its_own(project: Path) -> None:
    write(project / "tasks" / "big" / "__init__.py", 'from .part import ANSWER\nNAME = "big"\nSUMMARY = "two files"\n')
    write(project / "tasks" / "big" / "part.py", "ANSWER = 42\n")
    assert Registry(folder=project).load("big", "task").ANSWER == 42


def test_a_failed_load_leaves_no_half_made_module(project: Path) -> None:
    path = write(project / "baselines" / "trap.py", FUSION.format(name="trap") + BOOBY_TRAP).resolve()
    before = set(sys.modules)
    for _ in range(2):
        with pytest.raises(UsageError, match="executed"):
            load_file(path)
    assert not {name for name in set(sys.modules) - before if name.endswith("trap")}


def test_helper_files_without_a_name_are_passed_over(project: Path) -> None:
    write(project / "baselines" / "_private.py", "def (:\n")
    write(project / "baselines" / "shared_code.py", "VALUE = 1\n")
    before = names(Registry(folder=project.parent))
    assert names(Registry(folder=project)) == before


@pytest.mark.parametrize("value", ["mine_package", "mine_package.deep.module", "mine_package:thing"])
def test_an_installed_entry_point_is_listed_without_being_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    source = FUSION.format(name="installed-one") + BOOBY_TRAP
    write(tmp_path / "mine_package" / "__init__.py", BOOBY_TRAP if "." in value else source)
    write(tmp_path / "mine_package" / "deep" / "__init__.py", BOOBY_TRAP)
    write(tmp_path / "mine_package" / "deep" / "module.py", source)
    install(monkeypatch, tmp_path, "mmbench.baselines", value)
    plugin = Registry(folder=tmp_path).get("installed-one", "fusion")
    assert plugin.origin == "installed"
    assert not [name for name in sys.modules if name.startswith("mine_package")]


def test_an_entry_point_to_nowhere_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, "mmbench.tasks", "no_such_package.module")
    registry = Registry(folder=tmp_path)
    assert "no_such_package" in registry.broken[0]
    assert "crisismmd" in names(registry)


def test_an_installed_task_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine_task.py", 'NAME = "installed-task"\nSUMMARY = "x"\nANSWER = 42\n')
    install(monkeypatch, tmp_path, "mmbench.tasks", "mine_task")
    assert Registry(folder=tmp_path).load("installed-task", "task").ANSWER == 42
