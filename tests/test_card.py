"""The card of a saved model says what is known, and nothing else."""

from huggingface_hub import ModelCard

import wavelit
from waves import write_waves

SMALL = {"embed_dim": 16, "num_heads": 2, "depth": 2, "levels": 1}


def test_the_card_is_true(tmp_path):
    data = wavelit.WellDataModule(write_waves(tmp_path / "waves"))
    model = wavelit.build_model(data, "nano", **SMALL)
    model.save_pretrained(tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text()
    for claim in ("push", "Hub", "license:", "mit"):
        assert claim not in text, claim
    assert f"{model.n_parameters / 1e6:.2f}M parameters" in text
    assert "Trained on `plane_waves`" in text
    assert "| fields | height |" in text
    read = ModelCard.load(tmp_path / "model" / "README.md")
    assert read.data.to_dict() == {
        "library_name": "wavelit",
        "tags": ["PDE", "emulator", "wavelets"],
    }


def test_a_card_without_names_names_none(tmp_path):
    model = wavelit.WaveLiT(wavelit.WaveLiTConfig.preset("nano", n_fields=2, **SMALL))
    model.save_pretrained(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "2 channels on 2-D grids" in text
    assert "Trained on" not in text


def test_names_are_no_markup(tmp_path):
    import dataclasses

    data = wavelit.WellDataModule(write_waves(tmp_path / "waves"))
    model = wavelit.build_model(data, "nano", **SMALL)
    model.signature = dataclasses.replace(model.signature, dataset="a`b\n# c <b>|")
    model.save_pretrained(tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text()
    assert "Trained on `a'b\\n# c (b)/`" in text
