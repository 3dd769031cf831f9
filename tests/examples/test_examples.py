"""The examples of small weights, on made data: each trains, stores, decodes and measures its networks, in seconds."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the examples need torch: pip install 'kolmo-codelength[hf]'")

torch: Any = importlib.import_module("torch")
EXAMPLES = Path(__file__).parents[2] / "examples"
FORMS = ("original", "pruned", "torus", "torus's size", "4 bits", "pruned + torus", "same step")
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::kolmo.errors.ShrinkWarning"),  # the torus loses much of some
]


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delenv("KOLMO_DATA", raising=False)


@pytest.fixture
def common(_path: None) -> Any:
    return importlib.import_module("common")


def start(name: str, *arguments: object) -> None:
    """What `python examples/NAME.py ARGUMENTS` does."""
    example, given = importlib.import_module(name), [str(argument) for argument in arguments]
    if name == "shrink_table":
        example.main(given)
    else:
        importlib.import_module("common").main(example.__doc__, example.subjects, given)


def rows_of(markdown: str) -> list[list[str]]:
    """Cells of a table's rows, without its head."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("name", ["language_model", "mobilenet", "resnet", "unet", "unet_channels"])
def test_every_example_measures_seven_forms(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "language_model":
        pytest.importorskip("transformers", reason="stories260K needs transformers: pip install 'kolmo-codelength[hf]'")
    start(name, "--smoke", "--folder", tmp_path)
    found = rows_of(capsys.readouterr().out)
    assert len(found) == (14 if name == "language_model" else 7)
    for cells, form in zip(found, FORMS * 2, strict=False):
        assert form in cells[2]
    sizes = [int(cells[3].replace(",", "")) for cells in found[:7]]
    assert sizes[0] == max(sizes)
    assert 0.995 * sizes[2] < sizes[3] <= sizes[2]  # the trellis at the size of torus
    assert sizes[6] < sizes[4]  # pruned at the same step


def test_channels_that_do_nothing_are_those_that_go() -> None:
    channels, unet = importlib.import_module("unet_channels"), importlib.import_module("unet")
    torch.manual_seed(2)
    wide = unet.UNet((4, 6, 8)).eval()
    with torch.no_grad():
        for module in wide.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for values in (module.weight, module.bias, module.running_mean, module.running_var):
                    values.uniform_(0.5, 1)
                dead = torch.randperm(len(module.weight))[::2]
                module.weight[dead] = module.bias[dead] = 0
            if isinstance(module, torch.nn.ConvTranspose2d):
                dead = torch.randperm(module.out_channels)[::2]
                module.weight[:, dead] = module.bias[dead] = 0
        x = torch.rand(2, 3, 16, 16)
        narrow = channels.narrowed(wide, 0.5).eval()
        assert [block[0].out_channels for block in narrow.down] == [2, 3, 4]
        torch.testing.assert_close(narrow(x), wide(x))
        torch.testing.assert_close(channels.narrowed(wide, 1.0).eval()(x), wide(x))
        assert not torch.allclose(channels.narrowed(wide, 0.3).eval()(x), wide(x))


def test_the_table_is_put_in_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the figure needs matplotlib: pip install 'kolmo-codelength[report]'")
    example = importlib.import_module("shrink_table")
    page, figure = tmp_path / "page.md", tmp_path / "figure.png"
    page.write_text(f"# Page\n\nBefore.\n\n{example.SECTION}\n\nOld.\n\n## After\n\nEnd.\n", "utf-8")
    start("shrink_table", "resnet", "--smoke", "--markdown", page, "--figure", figure)
    text = page.read_text("utf-8")
    assert text.startswith(f"# Page\n\nBefore.\n\n{example.SECTION}\n")
    assert text.endswith("\n\n## After\n\nEnd.\n")
    assert "Old." not in text
    assert len(rows_of(text)) == 7
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_section_is_added_to_a_page(tmp_path: Path) -> None:
    example = importlib.import_module("shrink_table")
    page = tmp_path / "page.md"
    example.put(page, "## One\n\n1\n")
    example.put(page, "## Two\n\n2\n")
    example.put(page, "## One\n\n3\n")
    assert page.read_text("utf-8") == "## One\n\n3\n\n## Two\n\n2\n"


@pytest.mark.parametrize("arguments", [("mobilenet",), ("unet",), ("shrink_table", "resnet")])
def test_data_that_is_missing_is_told(arguments: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="images are read with Pillow: pip install pillow")
    with pytest.raises(SystemExit, match="give --data or KOLMO_DATA"):
        start(*arguments, "--folder", tmp_path)
    with pytest.raises(SystemExit, match="is not there"):
        start(*arguments, "--folder", tmp_path, "--data", tmp_path)


def test_a_run_that_is_missing_is_told(common: Any, tmp_path: Path) -> None:
    with pytest.raises(common.KolmoError, match="no trained Transformer"):
        importlib.import_module("language_model").trained(tmp_path, "text")


def test_training_that_was_interrupted_ends_as_it_would_have(common: Any, tmp_path: Path) -> None:
    def trained(*stops: int) -> Any:
        torch.manual_seed(1)
        module, path = torch.nn.Conv2d(1, 1, 3), tmp_path / f"{len(stops)}.pt"

        def loss(step: int, stop: int) -> Any:
            if step == stop:
                raise KeyboardInterrupt
            x = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(step))
            return module(x).square().mean()

        for stop in (*stops, -1):
            try:
                common.train(module, lambda step, stop=stop: loss(step, stop), steps=12, rate=0.1, path=path)
            except KeyboardInterrupt:
                torch.nn.init.zeros_(module.weight)  # what was in memory is lost
        return module.weight

    common.SAVE_EVERY, kept = -1.0, common.SAVE_EVERY
    try:
        assert torch.equal(trained(), trained(5, 9))
    finally:
        common.SAVE_EVERY = kept


def test_pruning_takes_the_weights_that_shrink_takes(common: Any, tmp_path: Path) -> None:
    import kolmo

    weights = {"a": torch.randn(40, 40), "b": 3 * torch.randn(64, 8, 3, 3), "norm": torch.zeros(64)}
    sparse = common.from_sparse(
        {name: torch.as_tensor(x) for name, x in common.to_sparse(weights, 0.6).items()}, weights
    )
    report = kolmo.shrink(weights, tmp_path / "small", kolmo.Step(0.01), selection=kolmo.Selection(prune=0.6))
    gone = sum(int((sparse[name] == 0).sum()) for name in ("a", "b"))
    assert abs(gone - report.coded.pruned) <= 0.001 * report.coded.count
    for name in weights:
        left = sparse[name] != 0
        assert torch.equal(sparse[name][left], weights[name][left])
