"""Every configuration in examples/ trains."""

from pathlib import Path

import pytest

from vae_plugin import AutoencoderVAE, finetune

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.mark.parametrize("config", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configuration_trains(config, tmp_path):
    short = ["--max_train_steps", "2", "--circles_length", "200", "--num_validation_images", "16"]
    finetune.run(["--config", str(config), "--output_dir", str(tmp_path), *short], "finetune.py")
    AutoencoderVAE.from_pretrained(tmp_path)
