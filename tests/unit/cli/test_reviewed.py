"""A study out of the spool, whether its instances lie in segments or in files of their own."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from pacs_guard.assemble import find_instances
from pacs_guard.cli.app import app
from pacs_guard.cli.wiring import CLOCK, open_stores
from pacs_guard.config import load_settings
from pacs_guard.errors import ConfigurationError, SpoolError
from pacs_guard.queue.intake import Intake
from pacs_guard.simulate import make_phantom, write_series
from tests.integration.node import write_config


@pytest.fixture(params=[0, 1 << 22], ids=["files", "segments"])
def node(tmp_path, request):
    """A queue and a spool with one study; returns the configuration and the files that came in."""
    extra = f"[receive]\nsegment_bytes = {request.param}\n"
    config = write_config(tmp_path / "node", {"pacs": ("PACS", 104)})
    config.write_text(config.read_text().replace("[receive]\n", extra))
    stores = open_stores(load_settings(config))
    spool, intake = stores.spool(), Intake(stores.database, CLOCK, "test")
    write_series(make_phantom(slices=3, size=64, slice_mm=5.0, seed=1), tmp_path / "sent")
    intake.open_association("a", calling_ae="CT1", address="127.0.0.1", source="ct-1")
    sent = find_instances([tmp_path / "sent"])[0]
    for instance in sent:
        content = Path("/", instance.path).read_bytes()
        incoming = spool.receive(content[: instance.offset])
        incoming.write(content[instance.offset :])
        placed = incoming.place(spool.path_for(instance.key.study_uid))
        spool.sync(placed.holder)
        placed.holder.settle()
        intake.record(replace(instance, path=placed.path, source="ct-1"), calling_ae="CT1", association_id="a")
    assert placed.path.startswith("segments/" if request.param else "instances/")
    yield config, sent
    spool.release()
    stores.database.close()


def export(config, study, to):
    return CliRunner().invoke(app, ["studies", "export", study, "--to", str(to), "--config", str(config)])


def test_a_study_is_exported_as_the_files_that_came_in(node, tmp_path):
    config, sent = node
    to = tmp_path / "out"
    done = export(config, sent[0].key.study_uid, to)
    assert done.exit_code == 0, done.output
    assert "3 instances of study 1 written" in done.output
    copies = sorted(path.read_bytes() for path in to.iterdir())
    assert copies == sorted(Path("/", one.path).read_bytes() for one in sent)
    assert {dcmread(path).SOPInstanceUID for path in to.iterdir()} == {one.key.sop_uid for one in sent}


def test_nothing_is_mixed_with_what_is_there(node, tmp_path):
    config, sent = node
    (tmp_path / "note").write_text("mine")
    done = export(config, sent[0].key.study_uid, tmp_path)
    assert isinstance(done.exception, ConfigurationError)


def test_what_is_damaged_is_left_out_and_the_command_fails(node, tmp_path):
    config, sent = node
    spool = load_settings(config).spool_dir
    data_set = Path("/", sent[1].path).read_bytes()[sent[1].offset :]
    (path,) = [path for path in spool.rglob("*") if path.is_file() and data_set in path.read_bytes()]
    content = path.read_bytes()
    path.write_bytes(content.replace(data_set, data_set[:-1] + bytes([data_set[-1] ^ 1])))
    done = export(config, sent[0].key.study_uid, tmp_path / "out")
    assert isinstance(done.exception, SpoolError)
    assert len(list((tmp_path / "out").iterdir())) == 2
