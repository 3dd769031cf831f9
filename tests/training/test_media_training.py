"""What training on pictures and on sounds have in common: runs from folders to networks, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")
import click  # noqa: E402
from click.testing import CliRunner  # noqa: E402

from helpers.media_made import make_pictures, make_sounds  # noqa: E402
from kolmo.cli import group  # noqa: E402
from kolmo.errors import KolmoError  # noqa: E402
from kolmo.predictors.embedded import pixel_network, sample_network  # noqa: E402
from kolmo.predictors.embedded.layered_network import NetworkFile  # noqa: E402
from kolmo.training.monitor import Monitor, Status  # noqa: E402
from kolmo.training.pictures.data import open_pictures  # noqa: E402
from kolmo.training.pictures.trainer import PixelTrainer  # noqa: E402
from kolmo.training.products.folder import RunFolder  # noqa: E402
from kolmo.training.settings import Budget, Settings  # noqa: E402
from kolmo.training.sounds.data import open_sounds  # noqa: E402
from kolmo.training.sounds.trainer import SampleTrainer  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Case:
    """A medium.

    Attributes:
        library: reads its files; `module` is what is imported.
        row: of the card's table.
        first: a file of the folder that `make` makes.
        broken: a file that cannot be read.
        refusal: what is said of it.
    """

    model: str
    medium: str
    library: str
    module: str
    make: Callable[[Path], None]
    open: Callable[..., Any]
    trainer: type[Any]
    shape: type[Any]
    file: NetworkFile[Any, Any]
    row: str
    first: str
    broken: tuple[str, bytes]
    refusal: str

    def train(self, *arguments: str) -> tuple[int, str]:
        """The exit status of `kolmo train`, and what it says."""
        words = ["train", "--model", self.model, "--lanes", "32", "-T", "1", "-q", *arguments]
        result = CliRunner().invoke(group, words, standalone_mode=False)
        if isinstance(result.exception, click.ClickException):
            return result.exception.exit_code, result.exception.format_message()
        if result.exception is not None:
            raise result.exception
        return result.return_value, result.output


CASES = {
    "pictures": Case(
        model="pixels",
        medium="pictures",
        library="Pillow",
        module="PIL",
        make=make_pictures,
        open=open_pictures,
        trainer=PixelTrainer,
        shape=pixel_network.PixelShape,
        file=pixel_network.FILE,
        row="some, grey patches",
        first="0.png",
        broken=("broken.png", b"\x89PNG\r\n\x1a\nbroken"),
        refusal="not a picture that Pillow reads",
    ),
    "sounds": Case(
        model="samples",
        medium="sounds",
        library="soundfile",
        module="soundfile",
        make=make_sounds,
        open=open_sounds,
        trainer=SampleTrainer,
        shape=sample_network.SampleShape,
        file=sample_network.FILE,
        row="some, 8 bits",
        first="0.flac",
        broken=("broken.wav", b"RIFF\x10\0\0\0WAVEbroken"),
        refusal="not a sound that soundfile reads",
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    found = CASES[request.param]
    pytest.importorskip(found.module)
    return found


@pytest.fixture
def folder(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with files of the medium in its folder `some`."""
    monkeypatch.chdir(tmp_path)
    case.make(tmp_path / "some")
    return tmp_path


def test_from_files_to_network(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kolmo.training.pictures.trainer.MEASURED_BYTES", 1000)
    code, output = case.train("some", "-o", "run", "--budget", "30steps")
    assert code == 0, output
    product = Path(f"run/{case.model}.safetensors")
    weights, before = case.file.load(product), product.read_bytes()
    assert weights.about[case.medium] == "some"
    card = Path("run/card.md").read_text()
    assert weights.fingerprint.hex() in card
    assert f"| {case.row} |" in card
    entries = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    assert int(weights.about["trained_bytes"]) == entries[-1]["bytes"]
    scores: dict[str, Any] = entries[-1]["scores"]
    assert all(abs(score["exact"] / score["float"] - 1) < 0.003 for score in scores.values())
    assert case.train("some", "-o", "run", "--budget", "30steps")[0] == 0  # finished: nothing is done again
    assert product.read_bytes() == before
    assert case.train("some", "-o", "more", "--budget", "2steps", "--init", str(product))[0] == 0


def test_the_run_s_own_files_are_not_sources(case: Case, folder: Path) -> None:
    (alone,) = case.open([(folder / "some", None)])
    run = folder / "some" / "run"
    run.mkdir()
    shutil.copy(folder / "some" / case.first, run / f"curve{Path(case.first).suffix}")
    (source,) = case.open([(folder / "some", None)], run)
    assert source.describe() == alone.describe()
    assert case.open([(folder / "some", None)])[0].count == alone.count + 1
    status, line = case.train("some", "-o", "some", "--budget", "2steps")
    assert (status, line.count("\n")) == (1, 1)
    assert "is the folder of the run as well as a source" in line


def test_interrupted_is_as_good_as_in_one_go(case: Case, folder: Path) -> None:
    class Stopping(Monitor):
        steps = 0

        def step(self, status: Status) -> None:
            self.steps += 1

        def stop(self) -> bool:
            return self.steps == 5

    sources = case.open([(folder / "some", None)])
    settings = Settings(Budget(12, "steps"), lanes=16, steps=1, quantise_from=0.5)

    def trainer(name: str, monitor: Monitor | None = None) -> Any:
        (folder / name).mkdir(exist_ok=True)
        made = case.trainer(case.shape(), settings, sources, RunFolder(folder / name), monitor=monitor)
        saved = made.folder.load()
        if saved:
            made.restore(saved)
        return made

    in_one_go = trainer("one")
    assert in_one_go.run()
    assert not trainer("two", Stopping()).run()
    parts = trainer("two")
    assert parts.run()
    for expected, found in zip(in_one_go.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(expected, found)


def test_errors_are_one_line(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "one").mkdir()
    (folder / "some" / case.first).rename(folder / "one" / case.first)
    with pytest.raises(KolmoError, match="too few"):
        case.open([(folder / "one", None)])
    with pytest.raises(KolmoError, match=f"not a folder; name one with {case.medium}"):
        case.open([(folder / "none", None)])
    with pytest.raises(KolmoError, match="this name"):
        case.open([(folder / "one", None), (folder / "one", None)])
    name, content = case.broken
    (folder / "one" / name).write_bytes(content)
    code, output = case.train("one", "-o", "run")
    assert code != 0
    assert output.count("\n") == 1
    assert case.refusal in output
    monkeypatch.setitem(__import__("sys").modules, case.module, None)
    code, output = case.train("one", "-o", "run")
    assert code != 0
    assert output.count("\n") == 1
    assert case.library in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tables", "2:8"], "--tables is for models of text"),
        (["--vocabulary", "bpe:300"], "--vocabulary is for models of text"),
        (["--validate", "x"], "--validate is for models of text"),
        (["--state", "100"], "no network of MODEL has a width of 100"),
        (["--layers", "9"], "no network of MODEL has 9 layers"),
    ],
)
def test_usage_errors(case: Case, arguments: list[str], message: str, folder: Path) -> None:
    code, output = case.train("some", "-o", "run", *arguments)
    assert code == 2
    assert message.replace("MODEL", case.model) in output
