"""The tracker of a run is there before it starts, and gets the project that was asked for."""

import sys
from types import SimpleNamespace

import pytest
from accelerate import tracking
from accelerate.utils import LoggerType

from support.runs import options
from vae_plugin.errors import UserError
from vae_plugin.training import trackers
from vae_plugin.training.accelerator import make_accelerator


@pytest.fixture
def wandb(monkeypatch):
    """A client of W&B, and the projects that runs were started in."""
    projects = []

    def init(project, **more):
        if project == "closed":
            raise ConnectionError("no API key configured.\nUse wandb login.")
        projects.append(project)
        return SimpleNamespace(log=lambda values, **more: None, finish=lambda: None)

    client = SimpleNamespace(init=init, config=SimpleNamespace(update=lambda values, **more: None))
    monkeypatch.setitem(sys.modules, "wandb", client)
    monkeypatch.setattr(tracking, "_available_trackers", [*tracking._available_trackers, LoggerType.WANDB])
    monkeypatch.setattr(tracking, "is_wandb_available", lambda: True)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return projects


def test_a_tracker_that_is_not_installed_is_refused_before_the_start(tmp_path, monkeypatch):
    for name in ("wandb", "trackio", "tensorboard"):
        monkeypatch.setattr(tracking, "_available_trackers", [])
        with pytest.raises(UserError, match=rf"--report_to {name} needs .* pip install 'vae-plugin\[{name}\]'"):
            make_accelerator(options(tmp_path, report_to=name))


def started(asked):
    """Start the tracker of a run with these options."""
    trackers.start_tracker(make_accelerator(asked), asked)


def test_the_project_is_that_of_the_options_or_the_environment(wandb, tmp_path, monkeypatch):
    started(options(tmp_path, report_to="wandb"))
    monkeypatch.setenv("WANDB_PROJECT", "faces")
    started(options(tmp_path, report_to="wandb"))
    started(options(tmp_path, report_to="wandb", tracker_project_name="cats"))
    assert wandb == ["logs", "faces", "cats"]
    assert trackers.project_name(options(tmp_path, report_to="trackio").output) == "logs"


def test_a_tracker_that_cannot_be_started_is_one_sentence(wandb, tmp_path):
    with pytest.raises(
        UserError, match=r"--report_to wandb cannot be started: no API key configured\. Use wandb login"
    ):
        started(options(tmp_path, report_to="wandb", tracker_project_name="closed"))


@pytest.mark.parametrize("report_to", [None, "tensorboard"])
def test_a_project_needs_a_tracker_that_has_projects(report_to, tmp_path):
    with pytest.raises(UserError, match="--tracker_project_name applies only to --report_to wandb or trackio"):
        options(tmp_path, report_to=report_to, tracker_project_name="cats")
