"""The same bytes on two nodes of a Ray cluster, which are on this machine."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from archives_made import cc, pages_of, tree, write_wet

from kolmo.collection.collecting import collect
from kolmo.collection.common_crawl.pipeline import CommonCrawl
from kolmo.collection.engine import StageEngine, run_stages
from kolmo.collection.stages import Shard, Stage, Work
from kolmo.corpus import Document
from kolmo.errors import KolmoError

ray: Any = pytest.importorskip("ray", reason="needs Ray: pip install 'kolmo-codelength[ray]'")


class NoteNode:
    """Notes on which node a task runs; the first two wait for each other."""

    name = "node"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        import time

        path = Path(shard.work.folder) / f"node-{shard.index}"
        path.write_text(ray.get_runtime_context().get_node_id())
        for _ in range(600):
            if len(list(path.parent.glob("node-*"))) > 1:
                break
            time.sleep(0.05)
        yield Document(f"shard {shard.index}", "cc")


class Break:
    name = "break"

    def run(self, documents: Iterable[Document], shard: Shard) -> Iterator[Document]:
        raise KolmoError("as asked")
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))  # where workers find the steps
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster_utils: Any = importlib.import_module("ray.cluster_utils")
        made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.add_node(num_cpus=1)
        ray.init(made.address, logging_level=logging.ERROR, log_to_driver=False)
        yield
        ray.shutdown()
        made.shutdown()


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_two_nodes(cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2
    engine = StageEngine("ray", workers=2)
    work = Work(str(tmp_path / "nodes"))
    Path(work.folder).mkdir()
    run_stages([Stage("node", [NoteNode()], 2)], work, engine)
    assert len({path.read_text() for path in Path(work.folder).glob("node-*")}) == 2
    # Each task starts a process, so the pipeline ends where its shards have been compared with each other.
    stages = CommonCrawl.stages
    monkeypatch.setattr(CommonCrawl, "stages", lambda self, work: stages(self, work)[:4])
    monkeypatch.setattr(CommonCrawl, "notes", lambda self, work: {})
    files = [write_wet(tmp_path / f"s{n}.warc.wet.gz", pages_of(100 * n, 12)) for n in range(2)]
    collect(cc(tmp_path, files), str(tmp_path / "local"))
    collect(cc(tmp_path, files), str(tmp_path / "ray"), engine=engine)
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")
    assert json.loads((tmp_path / "ray" / "run-cc.json").read_text())["engine"] == "ray"
    with pytest.raises(KolmoError, match=r"stage break, shard 0: as asked"):
        run_stages([Stage("break", [Break()], 1)], Work(str(tmp_path / "broken")), engine)
